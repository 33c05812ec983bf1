/**
 * Decides whether a pod is meshed as far as that is known without asking anybody: A and B of the
 * reference implementation's order. Apart from the rest, since most calls on a node need no more.
 */
import type { Skip } from "./decision.ts";

/**
 * Decides what can be decided without asking anybody: A, no Kubernetes pod; B, excluded namespace.
 *
 * @param args What the runtime says about the pod.
 * @param excludeNamespaces `kubernetes.exclude_namespaces` of the network configuration.
 * @param includeNamespaces `kubernetes.include_namespaces`; empty: all.
 * @returns A reason to leave the pod alone; `undefined` when it must be looked up.
 */
export function decideBeforeLookup(
  args: { readonly podNamespace?: string; readonly podName?: string },
  excludeNamespaces: readonly string[],
  includeNamespaces: readonly string[] = [],
): Skip | undefined {
  const { podNamespace: namespace, podName: name } = args;
  if (!namespace || !name) {
    return skip(
      "not-a-pod",
      `CNI_ARGS has no ${
        namespace ? "K8S_POD_NAME" : "K8S_POD_NAMESPACE"
      }: this is not a Kubernetes pod`,
    );
  }
  if (isIn(excludeNamespaces, namespace)) {
    return skip(
      "excluded-namespace",
      `Namespace "${namespace}" is in "kubernetes.exclude_namespaces" of the network configuration`,
    );
  }
  if (includeNamespaces.length > 0 && !isIn(includeNamespaces, namespace)) {
    return skip(
      "excluded-namespace",
      `Namespace "${namespace}" is not in "kubernetes.include_namespaces" of the network ` +
        "configuration",
    );
  }
  return undefined;
}

/** Tells whether a list has a namespace, by its name or by the beginning of it, as `openshift-*`. */
function isIn(list: readonly string[], namespace: string): boolean {
  return list.some((entry) =>
    entry === namespace ||
    (entry.length > 1 && entry.endsWith("*") && namespace.startsWith(entry.slice(0, -1)))
  );
}

/** Puts a skip together. */
export function skip(code: Skip["code"], reason: string): Skip {
  return { kind: "skip", code, reason };
}
