/**
 * Where a pod's cgroup is: found by the pod's UID in its name, whatever made it, else not at all.
 * Pure: what is on the machine comes from a {@linkcode CgroupView}.
 *
 * Facts: `kubelet` (pkg/kubelet/cm) names the folders, systemd's `systemd.slice(5)` their nesting,
 * `cgroups(7)` the hierarchies, `proc(5)` the files. kubelet makes a pod's cgroup before it asks the
 * runtime for the sandbox, so that it is there when the plugin is called.
 */
import { parseMounts } from "./mounts.ts";

/** What can be seen of the machine. */
export interface CgroupView {
  /** The text of `/proc/self/mountinfo`. */
  readonly mounts: string;
  /** The text of `/proc/cgroups`, empty where the kernel has none. */
  readonly controllers: string;
  /** Whether there is such a folder. */
  isFolder(path: string): boolean;
  /** Names of the folders in a folder; none when it is gone. */
  folders(path: string): readonly string[];
}

/** A pod's cgroup, or why there is none that eBPF programs can be attached to. */
export type PodCgroup =
  | { readonly path: string; readonly how: "by name" | "by search" }
  | { readonly problem: CgroupProblem; readonly reason: string };

/** What can be the matter. */
export type CgroupProblem = "no-cgroup2" | "no-pod-cgroup" | "cgroup-v1-network";

/** Folders that a search looks into at most; a node with 250 pods has about 3,000. */
const MOST_FOLDERS = 8192;

/** Levels below the mount that a search goes down: kind inside of Docker has 7. */
const MOST_LEVELS = 10;

/**
 * Finds the cgroup of a pod in the file systems of cgroup2.
 *
 * Of the name only the pod's UID is believed, as the whole of the last part: never a folder that
 * merely holds it, and nothing inside of a pod's cgroup, where a pod with a cgroup namespace of its
 * own may make folders of any name.
 *
 * @param uid The pod's UID as kubelet uses it: of a static pod that is the hash of its file, which is
 * what container runtimes tell (`K8S_POD_UID`), not the UID of the API object.
 * @param root Only this folder and what is mounted below counts, for example `/sys/fs/cgroup`.
 */
export function findPodCgroup(
  view: CgroupView,
  uid: string | undefined,
  root?: string,
): PodCgroup {
  if (uid === undefined) {
    return none("no-pod-cgroup", "the runtime does not tell the UID that kubelet knows the pod by");
  }
  if (!/^[A-Za-z0-9][A-Za-z0-9-]{7,63}$/.test(uid)) {
    return none("no-pod-cgroup", "the pod's UID cannot be part of a cgroup's name");
  }
  const mounts = parseMounts(view.mounts).filter(({ type }) => type === "cgroup2")
    .map(({ point }) => point);
  const eligible = root === undefined ? mounts : mountsAt(mounts, root);
  if (eligible.length === 0) {
    return none(
      "no-cgroup2",
      root === undefined || mounts.length === 0
        ? "no cgroup2 file system is mounted"
        : `there is no cgroup2 file system at or below "${root}"`,
    );
  }
  const network = usedNetworkController(view.controllers);
  if (network !== undefined) {
    return none(
      "cgroup-v1-network",
      `cgroups of version 1 use the controller ${network}, with which kernels before 5.15 run no ` +
        "program of a cgroup2",
    );
  }
  for (const mount of eligible) {
    for (const candidate of namesOf(uid)) {
      const path = below(mount, candidate);
      if (view.isFolder(path)) return { path, how: "by name" };
    }
  }
  return search(view, eligible, uid);
}

/** The folders in which kubelet puts pods of one quality of service. */
const QUALITIES = ["burstable", "besteffort", ""];

/** `--cgroup-root` of kubelet: kind's nodes have `/kubelet`. */
const ROOTS = ["", "kubelet"];

/** Lists the usual places, below a mount. */
function namesOf(uid: string): string[] {
  return ROOTS.flatMap((root) =>
    QUALITIES.flatMap((
      quality,
    ) => [systemdPath(root, quality, uid), cgroupfsPath(root, quality, uid)])
  );
}

/** systemd nests a slice `a-b.slice` in `a.slice`, so that the UID's own `-` become `_`. */
function systemdPath(root: string, quality: string, uid: string): string {
  const parts = [root, "kubepods", quality, `pod${uid.replaceAll("-", "_")}`].filter((part) =>
    part !== ""
  );
  return parts.map((_, index) => `${parts.slice(0, index + 1).join("-")}.slice`).join("/");
}

function cgroupfsPath(root: string, quality: string, uid: string): string {
  return [root, "kubepods", quality, `pod${uid}`].filter((part) => part !== "").join("/");
}

function search(view: CgroupView, mounts: readonly string[], uid: string): PodCgroup {
  const own = new RegExp(`^(pod${uid}|(.+-)?pod${uid.replaceAll("-", "_")}\\.slice)$`);
  const found: string[] = [];
  let looked = 0;
  let level = [...mounts];
  for (let depth = 0; depth < MOST_LEVELS && level.length > 0; depth++) {
    const next: string[] = [];
    for (const folder of level) {
      if (++looked > MOST_FOLDERS) {
        return none("no-pod-cgroup", `it was not found in the first ${MOST_FOLDERS} cgroups`);
      }
      for (const name of view.folders(folder)) {
        const path = below(folder, name);
        if (own.test(name)) found.push(path);
        else if (!isPodName(name)) next.push(path);
      }
    }
    level = next;
  }
  const [path, other] = found;
  if (path === undefined) {
    return none(
      "no-pod-cgroup",
      `no cgroup below ${mounts.join(" and ")} has the pod's UID ${uid}`,
    );
  }
  return other === undefined
    ? { path, how: "by search" }
    : none("no-pod-cgroup", `two cgroups have the pod's UID: "${path}" and "${other}"`);
}

/** A UID with and without `-`, as a folder's name or the end of a slice's. */
function isPodName(name: string): boolean {
  return /^(.+-)?pod([0-9a-f]{32}|[0-9a-f]{8}([-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(\.slice)?$/
    .test(name);
}

/** A folder inside of a cgroup2 file system will do as well. */
function mountsAt(mounts: readonly string[], root: string): string[] {
  const folder = root.replace(/\/+$/, "") || "/";
  const isBelow = (path: string, above: string) =>
    path === above || path.startsWith(above === "/" ? "/" : `${above}/`);
  const inside = mounts.filter((mount) => isBelow(mount, folder));
  if (inside.length > 0) return inside;
  return mounts.some((mount) => isBelow(folder, mount)) ? [folder] : [];
}

/**
 * A socket has either a cgroup2 or a class of these controllers before Linux 5.15, for the whole
 * machine once a class was used. Nothing tells whether one was, but without groups nobody uses any.
 */
function usedNetworkController(controllers: string): string | undefined {
  for (const line of controllers.split("\n")) {
    const [name = "", hierarchy, groups] = line.split("\t");
    if (name !== "net_cls" && name !== "net_prio") continue;
    if (Number(hierarchy) > 0 && Number(groups) > 1) return name;
  }
  return undefined;
}

function below(folder: string, name: string): string {
  return folder === "/" ? `/${name}` : `${folder}/${name}`;
}

function none(problem: CgroupProblem, reason: string): PodCgroup {
  return { problem, reason };
}
