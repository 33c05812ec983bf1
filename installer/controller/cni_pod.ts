/** What a pod of the CNI DaemonSet says about its node. */
import { isRecord, recordsOf } from "../../src/json/record.ts";

/** A pod of the DaemonSet, reduced. */
export interface CniPod {
  /** `namespace/name`. */
  readonly key: string;
  readonly node: string;
  /** Phase `Running` and condition `Ready`, as the reference's controller sees it. */
  readonly ready: boolean;
  /** Since when, as kubelet has written it. */
  readonly readySince: string;
  /**
   * The agent runs, has been ready and says itself that it is not any longer: its container is older
   * than the end of its readiness, and it is kubelet that reports it. A node controller that has lost
   * the node, and an agent that restarts, say nothing of the kind.
   */
  readonly denies: boolean;
  /** Why it is not ready, for people. */
  readonly why: string;
}

/**
 * Parses a v1 Pod, whole or as an item of a list.
 *
 * @throws {TypeError} when it is not a pod.
 */
export function parseCniPod(json: unknown): CniPod {
  const pod = isRecord(json) ? json : {};
  const metadata = isRecord(pod.metadata) ? pod.metadata : {};
  const spec = isRecord(pod.spec) ? pod.spec : {};
  const status = isRecord(pod.status) ? pod.status : {};
  if (typeof metadata.name !== "string" || typeof metadata.namespace !== "string") {
    throw new TypeError('Not a pod: "metadata" has no name or namespace');
  }
  const conditions = recordsOf(status.conditions);
  const condition = (type: string) => conditions.find((found) => found.type === type);
  const running = status.phase === "Running";
  const ready = running && condition("Ready")?.status === "True";
  const containers = condition("ContainersReady");
  const unreadySince = containers?.status === "False"
    ? Date.parse(String(containers.lastTransitionTime))
    : NaN;
  const denies = running && !ready && metadata.deletionTimestamp === undefined &&
    recordsOf(status.containerStatuses).some((container) =>
      container.ready === false && startOf(container) < unreadySince
    );
  return {
    key: `${metadata.namespace}/${metadata.name}`,
    node: typeof spec.nodeName === "string" ? spec.nodeName : "",
    ready,
    readySince: String(condition("Ready")?.lastTransitionTime ?? ""),
    denies,
    why: ready
      ? ""
      : denies
      ? "its agent reports that the plugin is not installed"
      : running
      ? "it is not ready"
      : `its phase is ${JSON.stringify(String(status.phase).slice(0, 40))}`,
  };
}

/** Whether two states of a pod are the same to those who decide. */
export function isSamePodToUs(a: CniPod | undefined, b: CniPod | undefined): boolean {
  return a?.node === b?.node && a?.ready === b?.ready && a?.denies === b?.denies &&
    a?.readySince === b?.readySince;
}

/** When the container that runs was started, `NaN` when none does. */
function startOf(container: Record<string, unknown>): number {
  const state = isRecord(container.state) ? container.state : {};
  return isRecord(state.running) ? Date.parse(String(state.running.startedAt)) : NaN;
}
