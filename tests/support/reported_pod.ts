/** What a kubelet reports about a pod that has started. */
import type { PodObject } from "./pods.ts";

/** What the report is about. */
export interface ReportedLife {
  readonly ips: readonly string[];
  /** ID of the container `kuma-validation`. */
  readonly container: string;
  /** Whether the sidecar is ready; else `kuma-validation` waits. */
  readonly isServing: boolean;
}

/** Returns the pod as the API server has it then. */
export function reportedPod(
  object: PodObject,
  { ips, container, isServing }: ReportedLife,
): PodObject {
  const status = {
    phase: isServing ? "Running" : "Pending",
    podIPs: ips.map((ip) => ({ ip })),
    initContainerStatuses: [{
      name: "kuma-validation",
      ready: false,
      containerID: `containerd://${container}`,
      state: { running: {} },
    }],
    containerStatuses: [{ name: "kuma-sidecar", ready: isServing, state: { waiting: {} } }],
  };
  return { ...object, status };
}
