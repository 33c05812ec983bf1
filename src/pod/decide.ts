/** Decides whether a pod that was looked up is meshed: C to E of the reference implementation's order. */
import type { Pod } from "../kubernetes/pod.ts";
import { quote } from "../text/quote.ts";
import type { Decision } from "./decision.ts";
import { skip } from "./decide_early.ts";
export { decideBeforeLookup } from "./decide_early.ts";
import { redirectConfigOf, type RedirectConfigOptions } from "./redirect_config.ts";
import type { RedirectRulesVersion } from "../redirect/config.ts";
import { runtimeClassWarning } from "./runtime_class.ts";

/** kubelet writes it on the API object that it makes for a static pod (ConfigMirrorAnnotationKey). */
const MIRROR_ANNOTATION = "kubernetes.io/config.mirror";

/**
 * Decides about a pod: C, an init container does the redirection; D, no sidecar; E, not injected;
 * else it is redirected as its annotations say.
 *
 * @param options As {@link redirectConfigOf} takes them, without what the pod tells.
 * @throws {ConfigError} when the annotations ask for what cannot or may not be done.
 */
export function decideForPod(
  pod: Pod,
  options: Omit<RedirectConfigOptions, "sidecarDns" | "podDns">,
): Decision {
  if (pod.initContainerNames.includes("kuma-init")) {
    return skip(
      "init-container",
      'Init container "kuma-init" sets up the redirection itself: the pod was injected without the CNI',
    );
  }
  if (![...pod.containerNames, ...pod.initContainerNames].includes("kuma-sidecar")) {
    return skip("no-sidecar", 'No container or init container is named "kuma-sidecar"');
  }
  const injected = Object.hasOwn(pod.annotations, "kuma.io/sidecar-injected")
    ? pod.annotations["kuma.io/sidecar-injected"]
    : undefined;
  if (injected !== "true") {
    return skip(
      "not-injected",
      injected === undefined
        ? 'Annotation "kuma.io/sidecar-injected" is missing'
        : `Annotation "kuma.io/sidecar-injected" is ${quote(injected)}, not "true"`,
    );
  }
  const { config, warnings, origins, ebpf } = redirectConfigOf(pod.annotations, {
    ...options,
    ...(pod.sidecarDns === undefined ? {} : { sidecarDns: pod.sidecarDns }),
    ...(pod.dns === undefined ? {} : { podDns: pod.dns }),
  });
  const unreachable = runtimeClassWarning(pod.runtimeClassName);
  return {
    kind: "redirect",
    config,
    warnings: unreachable === undefined ? warnings : [unreachable, ...warnings],
    origins,
    ...(ebpf === undefined ? {} : { ebpf }),
    ...(Object.hasOwn(pod.annotations, MIRROR_ANNOTATION) ? {} : { kubeletUid: pod.uid }),
  };
}

/** What the network configuration says about pods that are looked up. */
export interface DecidingSettings {
  readonly allowPodSettings: readonly string[];
  readonly resolvers: readonly string[];
  readonly clusterDns: readonly string[];
  readonly redirectRulesVersion: RedirectRulesVersion | undefined;
}

/**
 * Decides about a pod as {@linkcode decideForPod} does, by the network configuration's settings.
 *
 * @throws {ConfigError} when the annotations ask for what cannot or may not be done.
 */
export function decideBySettings(
  pod: Pod,
  { allowPodSettings, resolvers, clusterDns, redirectRulesVersion }: DecidingSettings,
): Decision {
  return decideForPod(pod, {
    allowPodSettings: new Set(allowPodSettings),
    resolvers,
    clusterDns,
    ...(redirectRulesVersion === undefined ? {} : { rulesVersion: redirectRulesVersion }),
  });
}
