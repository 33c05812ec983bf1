/** The plugin's configuration, as it stands in the ConfigMap. */
import type { Tree } from "./tree.ts";
import type { Values } from "./values.ts";

/** Namespaces that are never asked about: that of install-cni brings the token, so it needs none. */
export function excludedNamespaces(values: Values): string[] {
  const own = ["kube-system", values.get("cni.namespace")];
  return [...new Set([...own, ...values.get("cni.excludeNamespaces")])];
}

/** The plugin's configuration with install-cni's placeholders. */
export function networkConfig(values: Values): Tree {
  const engine = values.get("cni.engine");
  const clusterDns = values.get("cni.clusterDns");
  const included = values.get("namespaceAllowList");
  return {
    cniVersion: "0.3.1",
    ...(engine === "auto" ? {} : { engine }),
    kubernetes: {
      ...(clusterDns.length === 0 ? {} : { cluster_dns: clusterDns }),
      cni_bin_dir: values.get("cni.binDir"),
      exclude_namespaces: excludedNamespaces(values),
      ...(included.length === 0 ? {} : { include_namespaces: included }),
      kubeconfig: "__KUBECONFIG_FILEPATH__",
    },
    log_level: values.get("cni.logLevel"),
    name: "kuma-cni",
    type: "kuma-cni",
  };
}

/**
 * Formats JSON byte for byte as Helm's `toPrettyJson` does, so that chart and command give the same
 * text, and the same checksum of it: keys in order, and Go's escapes.
 */
export function prettyJson(value: unknown): string {
  return JSON.stringify(sorted(value), undefined, 2).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1);
  return Object.fromEntries(entries.map(([key, below]) => [key, sorted(below)]));
}
