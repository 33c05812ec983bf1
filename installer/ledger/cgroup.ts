/**
 * Which pod and container a process belongs to, by the path of its control group. Kubelet names a
 * pod's group after the UID, under both of its drivers: `/kubepods/burstable/pod<uid>/<container>`
 * and `/kubepods.slice/kubepods-burstable-pod<uid>.slice/cri-containerd-<container>.scope`. Pure.
 */

/** What a process's control groups say. */
export type CgroupPlace =
  /** It is a container's process. */
  | { readonly kind: "container"; readonly podUid: string; readonly container: string }
  /** It runs beside the containers of a pod, such as a runtime's helper. */
  | { readonly kind: "pod"; readonly podUid: string }
  /** It is no pod's. */
  | { readonly kind: "none" }
  /** Its groups name several pods: somebody nests groups, or lies. */
  | { readonly kind: "doubt" };

/** A UID as the API makes it, or the hash of a static pod; the driver of systemd writes `_` for `-`. */
const podPart =
  /(?:^|-)pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$/;
const containerPart = /^(?:(?:cri-containerd|crio|docker|libpod)-)?([0-9a-f]{64})(?:\.scope)?$/;

/**
 * Reads `/proc/PID/cgroup`, of both versions. A container can make groups below its own with any
 * name, so a path that names two pods, or two paths that differ, prove nothing.
 */
export function placeInCgroups(text: string): CgroupPlace {
  const places = text.split("\n").filter((line) => line !== "").map((line) =>
    placeOf(line.replace(/^\d+:[^:]*:/, ""))
  ).filter(({ kind }) => kind !== "none");
  const [first = { kind: "none" as const }, ...others] = places;
  const isOne = others.every((other) => JSON.stringify(other) === JSON.stringify(first));
  return isOne ? first : { kind: "doubt" };
}

function placeOf(path: string): CgroupPlace {
  const parts = path.split("/");
  const found = parts.flatMap((part, at) => {
    const uid = podPart.exec(part)?.[1];
    return uid === undefined ? [] : [{ podUid: uid.replaceAll("_", "-"), at }];
  });
  const [pod] = found;
  if (pod === undefined) return { kind: "none" };
  if (found.length > 1) return { kind: "doubt" };
  const container = containerPart.exec(parts[pod.at + 1] ?? "")?.[1];
  const { podUid } = pod;
  return container === undefined
    ? { kind: "pod", podUid }
    : { kind: "container", podUid, container };
}
