/** Each setting of `install-cni controller`, declared once. */
import { type Declaration, declarations } from "./declarations.ts";
import type { ValueOf } from "./kinds.ts";

/** Its own settings; the first three have the names of the reference's controller. */
export const controllerDeclarations = {
  taintEnabled: {
    variable: "KUMA_RUNTIME_KUBERNETES_NODE_TAINT_CONTROLLER_ENABLED",
    kind: "boolean",
    default: "true",
    help: "Whether nodes without a ready CNI pod get a taint; false: taints of ours are taken away",
  },
  /** Label `app` of the DaemonSet's pods. */
  cniApp: {
    variable: "KUMA_RUNTIME_KUBERNETES_NODE_TAINT_CONTROLLER_CNI_APP",
    kind: "labelValue",
    default: "",
    help: 'Label "app" of the DaemonSet\'s pods; must be given when nodes get a taint',
  },
  cniNamespace: {
    variable: "KUMA_RUNTIME_KUBERNETES_NODE_TAINT_CONTROLLER_CNI_NAMESPACE",
    kind: "label",
    default: "kube-system",
    help: "Namespace of the DaemonSet",
  },
  taintKey: declarations.taintKey,
  taintEffect: declarations.taintEffect,
  /** Seconds for which a node where the plugin was is trusted to have it still. */
  taintGrace: {
    variable: "KUMA_CNI_TAINT_GRACE",
    kind: "duration",
    default: "60",
    help: "Seconds without a ready CNI pod before a node that had one gets the taint: the plugin " +
      "outlives its agent's restart; 0: at once",
  },
  attachmentsEnabled: {
    variable: "KUMA_CNI_ATTACHMENT_CONTROLLER_ENABLED",
    kind: "boolean",
    default: "true",
    help: "Whether namespaces with the label kuma.io/sidecar-injection get a " +
      "NetworkAttachmentDefinition, where the cluster knows that kind",
  },
  leaseName: {
    variable: "KUMA_CNI_CONTROLLER_LEASE",
    kind: "label",
    default: "kuma-cni-controller",
    help: "Name of the Lease in the own namespace that elects the one replica that acts",
  },
} as const satisfies Record<string, Declaration>;

/** Settings of the node agent that the controller has as well. */
export const sharedDeclarations: readonly Declaration[] = [
  declarations.logLevel,
  declarations.healthPort,
  declarations.healthAddress,
  declarations.podName,
  declarations.podNamespace,
  declarations.apiHost,
  declarations.apiPort,
  declarations.apiProtocol,
  declarations.caFile,
  declarations.tokenFile,
];

/** The controller's settings, checked. */
export type ControllerSettings = {
  readonly [Name in keyof typeof controllerDeclarations]: ValueOf<
    (typeof controllerDeclarations)[Name]["kind"]
  >;
};
