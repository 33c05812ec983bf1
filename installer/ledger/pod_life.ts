/** Where a pod is in its life, as kubelet reports it: what decides whether its rules may change. */
import { isRecord, own } from "../../src/json/record.ts";
import type { Pod } from "../../src/kubernetes/pod.ts";

/** A pod of this node, with its life. */
export interface NodePod {
  readonly pod: Pod;
  readonly life: PodLife;
}

/** What is known of a pod's life. */
export interface PodLife {
  readonly hostNetwork: boolean;
  /** Neither succeeded nor failed. */
  readonly isAlive: boolean;
  /** All addresses that kubelet reports. */
  readonly ips: readonly string[];
  /** IDs of all containers that kubelet has told of; the sandbox is not among them. */
  readonly containerIds: readonly string[];
  /** A container, be it an init container, has been started: the network was set up before. */
  readonly hasStarted: boolean;
  /** The sidecar is ready, so that it has connections to lose. */
  readonly isServing: boolean;
  /** Milliseconds since 1970; 0 when it is not told. */
  readonly created: number;
}

/** Most containers and addresses of a pod that are looked at. */
const mostItems = 256;

/** Reads the life of a pod; whatever is missing or wrong counts as not told. */
export function podLifeOf(json: unknown): PodLife {
  const object = recordOf(json);
  const spec = recordOf(own(object, "spec"));
  const status = recordOf(own(object, "status"));
  const statuses = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"]
    .flatMap((key) => listOf(own(status, key)));
  const phase = own(status, "phase");
  const created = Date.parse(String(own(recordOf(own(object, "metadata")), "creationTimestamp")));
  return {
    hostNetwork: own(spec, "hostNetwork") === true,
    isAlive: phase !== "Succeeded" && phase !== "Failed",
    ips: listOf(own(status, "podIPs")).flatMap((item) => textAt(item, "ip")),
    containerIds: statuses.flatMap((item) =>
      textAt(item, "containerID").map((id) => id.replace(/^[a-z0-9-]+:\/\//, ""))
    ),
    hasStarted: statuses.some((item) => {
      const state = recordOf(own(item, "state"));
      return own(state, "running") !== undefined || own(state, "terminated") !== undefined;
    }),
    isServing: statuses.some((item) =>
      own(item, "name") === "kuma-sidecar" && own(item, "ready") === true
    ),
    created: Number.isFinite(created) ? created : 0,
  };
}

function recordOf(value: unknown): Record<string, unknown> {
  return isRecord(value) ? value : {};
}

function listOf(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.slice(0, mostItems).map(recordOf) : [];
}

function textAt(value: Record<string, unknown>, key: string): string[] {
  const found = own(value, key);
  return typeof found === "string" && found !== "" ? [found] : [];
}
