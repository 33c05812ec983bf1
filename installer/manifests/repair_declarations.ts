/** Values about pods that run already, and about the end. */
import { oneOf, truth, wholeNumber } from "./kinds.ts";
import { value } from "./value_declaration.ts";

/** Repair and uninstallation. */
export const repairValues = {
  "cni.repair.enterPods": value(
    truth,
    false,
    "Whether install-cni may enter the network namespaces of running pods, to compare their rules",
    "DaemonSet: capabilities SYS_ADMIN and NET_ADMIN, the host's /run/netns, with the engine ebpf " +
      "its cgroups; ClusterRole: events create",
  ),
  "cni.repair.sweepSeconds": value(
    wholeNumber(0, 86_400),
    600,
    "Seconds in which the rules of every running pod are compared once; 0: never",
    "DaemonSet: SWEEP_INTERVAL",
  ),
  "cni.repair.drift": value(
    oneOf("report", "repair"),
    "report",
    "What is done about rules of a running pod that were changed",
    "DaemonSet: REPAIR",
  ),
  "cni.repair.earlyPods": value(
    oneOf("off", "waiting", "always"),
    "off",
    "Whether meshed pods that started without the plugin get their rules: while their sidecar is not " +
      "ready, or always; with it come the rights of cni.repair.enterPods and cni.rbac.watchPods",
    "DaemonSet: REPAIR_EARLY_PODS, hostPID, capability SYS_PTRACE",
  ),
  "cni.uninstall.onStop": value(
    truth,
    false,
    "Whether it takes the plugin off the host whenever it is stopped: set it before removing all for good",
    "DaemonSet: KUMA_CNI_UNINSTALL",
  ),
  "cni.uninstall.whenRefused": value(
    truth,
    false,
    "Whether losing the right to read its own pod counts as being removed, as when all objects go at once",
    "DaemonSet: KUMA_CNI_UNINSTALL_WHEN_REFUSED",
  ),
} as const;
