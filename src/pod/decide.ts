/** Decides whether a pod is meshed, in the order A to E of the reference implementation. */
import type { Pod } from "../kubernetes/pod.ts";
import type { Decision, Skip } from "./decision.ts";
import { redirectConfigOf, type RedirectConfigOptions } from "./redirect_config.ts";

/**
 * Decides what can be decided without asking anybody: A, no Kubernetes pod; B, excluded namespace.
 *
 * @param args What the runtime says about the pod.
 * @param excludeNamespaces `kubernetes.exclude_namespaces` of the network configuration.
 * @returns A reason to leave the pod alone; `undefined` when it must be looked up.
 */
export function decideBeforeLookup(
  args: { readonly podNamespace?: string; readonly podName?: string },
  excludeNamespaces: readonly string[],
): Skip | undefined {
  const { podNamespace: namespace, podName: name } = args;
  if (!namespace || !name) {
    return skip(
      "not-a-pod",
      `CNI_ARGS has no ${
        namespace ? "K8S_POD_NAME" : "K8S_POD_NAMESPACE"
      }: this is no Kubernetes pod`,
    );
  }
  if (excludeNamespaces.includes(namespace)) {
    return skip(
      "excluded-namespace",
      `Namespace "${namespace}" is in "kubernetes.exclude_namespaces" of the network configuration`,
    );
  }
  return undefined;
}

/**
 * Decides about a pod: C, an init container does the redirection; D, no sidecar; E, not injected;
 * else it is redirected as its annotations say.
 *
 * @param options As {@link redirectConfigOf} takes them.
 * @throws {ConfigError} when the annotations ask for what cannot or may not be done.
 */
export function decideForPod(pod: Pod, options: RedirectConfigOptions): Decision {
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
        : `Annotation "kuma.io/sidecar-injected" is ${JSON.stringify(injected)}, not "true"`,
    );
  }
  const { config, warnings } = redirectConfigOf(pod.annotations, options);
  return { kind: "redirect", config, warnings };
}

function skip(code: Skip["code"], reason: string): Skip {
  return { kind: "skip", code, reason };
}
