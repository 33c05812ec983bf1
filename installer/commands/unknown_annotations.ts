/** Annotations that look as if they meant something to the plugin, and do not. */
import { podSettings } from "../../src/pod/pod_settings.ts";
import { nearestName } from "../../src/text/nearest.ts";

/** What annotations about the redirection begin with. */
const prefixes = ["traffic.kuma.io/", "kuma.io/transparent-proxying"];

/** Annotations with these beginnings that others read: the control plane and its injector. */
const others: ReadonlySet<string> = new Set([
  "traffic.kuma.io/transparent-proxy-config",
  "traffic.kuma.io/transparent-proxy-configmap-name",
  "kuma.io/transparent-proxying",
  "kuma.io/transparent-proxying-reachable-services",
]);

/**
 * Returns a sentence for each annotation about the redirection that nobody knows, with the one that
 * is probably meant: a mistyped exclusion is else found only when connections fail.
 */
export function unknownAnnotations(annotations: Readonly<Record<string, string>>): string[] {
  const known = new Set([
    ...others,
    ...podSettings().flatMap(({ annotation }) => annotation ?? []),
  ]);
  return Object.keys(annotations)
    .filter((name) => prefixes.some((prefix) => name.startsWith(prefix)) && !known.has(name))
    .map((name) => {
      const nearest = nearestName(name, known);
      const guess = nearest === undefined ? "" : `; did you mean ${nearest}?`;
      return `Annotation ${name.slice(0, 120)} is not known and has no effect${guess}`;
    });
}
