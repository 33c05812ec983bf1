/** What a user must do besides applying the objects. */
import { excludedNamespaces, usesEbpf } from "./network_config.ts";
import { imageOf } from "./objects.ts";
import type { Tree } from "./tree.ts";
import { memberAt, type Values, valuesForElsewhere } from "./values.ts";

/**
 * Lists the steps that follow from the values, besides those of the platform.
 *
 * @param given What the user gave, to say which of it has an effect elsewhere only.
 */
export function stepsFor(values: Values, given: Tree): string[] {
  if (!values.get("cni.enabled")) return ["cni.enabled is false: there are no objects"];
  const steps: string[] = [];
  const image = imageOf(values);
  if (image.startsWith("localhost/")) {
    steps.push(
      `Import the image ${image} on each node (ctr -n k8s.io images import FILE), or name your ` +
        "registry with --set global.image.registry=REGISTRY",
    );
  }
  const namespace = values.get("cni.namespace");
  if (namespace !== "kube-system") {
    steps.push(
      `Namespace ${namespace} must be there and allow hostPath volumes: kubectl create namespace ` +
        `${namespace}; kubectl label namespace ${namespace} ` +
        "pod-security.kubernetes.io/enforce=privileged",
    );
  }
  steps.push(
    "The control plane must inject for a CNI: in Kuma's chart, " +
      "controlPlane.envVars.KUMA_RUNTIME_KUBERNETES_INJECTOR_CNI_ENABLED=true (cni.enabled=true there " +
      "also installs Kuma's own CNI, which has the same names)",
  );
  if (usesEbpf(values)) {
    steps.push(
      "Leave experimental.ebpf.enabled false for the control plane: it would give each pod volumes of " +
        "the host, and the engine needs none",
    );
  }
  const hasController = values.get("cni.controller.enabled");
  const taint = "cni.taintController.enabled";
  const elsewhere = [
    ...(!hasController && memberAt(given, taint) !== undefined ? [taint] : []),
    ...valuesForElsewhere(given),
  ];
  if (elsewhere.length > 0) {
    steps.push(
      `Set ${elsewhere.join(", ")} for the control plane: nothing here has a place for it`,
    );
  }
  if (hasController) {
    steps.push(
      "Before you delete the objects, run: install-cni controller --remove-taints (KUBECONFIG); " +
        "Helm does so by itself",
    );
  }
  const allowed = values.get("namespaceAllowList");
  if (allowed.length > 0 && values.get("cni.rbac.watchPods")) {
    steps.push(
      "cni.rbac.watchPods has no effect with namespaceAllowList: all pods of a node can be watched " +
        "only with a right in the whole cluster",
    );
  }
  if (allowed.length > 0 && values.get("cni.taintController.agentMayRemove")) {
    steps.push(
      "cni.taintController.agentMayRemove has no effect with namespaceAllowList: nodes can be changed " +
        "only with a right in the whole cluster",
    );
  }
  const excluded = allowed.filter((name) => excludedNamespaces(values).includes(name));
  if (excluded.length > 0) {
    steps.push(
      `Pods of ${excluded.join(", ")} are skipped although namespaceAllowList names it`,
    );
  }
  return steps;
}
