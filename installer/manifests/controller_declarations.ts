/** Values of the controller (`docs/controller.md`). */
import { oneOf, text, textLike, truth, wholeNumber } from "./kinds.ts";
import { resources, textMapping, tolerations } from "./kubernetes_kinds.ts";
import { value } from "./value_declaration.ts";

/** The Deployment, its taints and its attachment definitions. */
export const controllerValues = {
  "cni.controller.enabled": value(
    truth,
    false,
    "Whether there is a controller of our own, for clusters whose control plane has none",
    "the controller's Deployment, account and rights",
  ),
  "cni.controller.replicas": value(
    wholeNumber(1, 5),
    2,
    "Replicas of the controller; one acts, the others wait",
    "Deployment: replicas",
  ),
  "cni.controller.healthPort": value(
    wholeNumber(1, 65_535),
    9911,
    "Port of the controller's health and metrics",
    "Deployment: HEALTH_PORT, probes",
  ),
  "cni.controller.resources": value(
    resources,
    { requests: { cpu: "50m", memory: "128Mi" }, limits: { memory: "256Mi" } },
    "Requests and limits of the controller",
    "Deployment: resources",
  ),
  "cni.controller.nodeSelector": value(
    textMapping,
    { "kubernetes.io/os": "linux" },
    "Nodes for the controller",
    "Deployment: nodeSelector",
  ),
  "cni.controller.tolerations": value(
    tolerations,
    [],
    "Tolerations besides those for our own taint, the control plane's and CriticalAddonsOnly",
    "Deployment: tolerations",
  ),
  "cni.controller.priorityClassName": value(
    text,
    "system-cluster-critical",
    "Priority class of the controller; nothing: none",
    "Deployment: priorityClassName",
  ),
  "cni.taintController.enabled": value(
    truth,
    true,
    "Whether the controller keeps pods off nodes where install-cni is not ready; without " +
      "cni.controller.enabled that is the control plane's work",
    "Deployment: KUMA_RUNTIME_KUBERNETES_NODE_TAINT_CONTROLLER_ENABLED",
  ),
  "cni.taintController.key": value(
    textLike(
      "a taint's key, such as NodeReadiness or kuma.io/cni-not-ready",
      "^([a-z0-9][-a-z0-9.]{0,251}/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$",
    ),
    "NodeReadiness",
    "Key of the taint; Kuma's own controller knows this one alone",
    "Deployment: KUMA_CNI_TAINT_KEY, tolerations",
  ),
  "cni.taintController.effect": value(
    oneOf("NoSchedule", "PreferNoSchedule", "NoExecute"),
    "NoSchedule",
    "Effect of the taint",
    "Deployment: KUMA_CNI_TAINT_EFFECT",
  ),
  "cni.taintController.graceSeconds": value(
    wholeNumber(0, 86_400),
    60,
    "Seconds without a ready CNI pod before a node that had one gets the taint",
    "Deployment: KUMA_CNI_TAINT_GRACE",
  ),
  "cni.taintController.agentMayRemove": value(
    truth,
    false,
    "Whether install-cni may take the taint from its own node when no controller does; its account " +
      "may then change every node",
    "DaemonSet: KUMA_CNI_REMOVE_OWN_TAINT; ClusterRole: nodes get, patch",
  ),
  "cni.attachmentController.enabled": value(
    truth,
    true,
    "Whether the controller makes NetworkAttachmentDefinitions in namespaces with Kuma's label, where " +
      "the cluster knows that kind",
    "Deployment: KUMA_CNI_ATTACHMENT_CONTROLLER_ENABLED; ClusterRole",
  ),
} as const;
