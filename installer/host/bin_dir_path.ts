/**
 * Whether the bin dir's path on the host can be the one that the plugin's program is given: a
 * container sees the folder under another path, and a program with a wrong interpreter path cannot
 * start. Needs no right: the kernel tells of each mount which part of its file system it shows.
 *
 * Facts: proc_pid_mountinfo(5); include/linux/proc_ns.h (`PROC_PID_INIT_INO`).
 */
import { readKernelFile } from "../../src/linux/kernel_file.ts";
import { type Mount, parseMounts } from "../../src/linux/mounts.ts";

/** What is seen of the bin dir's path on the host. */
export type BinDirPath =
  /** It is that folder, or may well be. */
  | { readonly kind: "likely" }
  /** It is another folder, unless a link on the host leads to it. */
  | { readonly kind: "other"; readonly seen: string }
  /** Nothing can be seen. */
  | { readonly kind: "unknown" };

/** What the comparison reads; tests have worlds of their own. */
export interface MountView {
  readonly mountinfo: () => string;
  readonly realPath: (path: string) => string;
  /** Device and inode of a folder; `undefined` when it cannot be looked at. */
  readonly identity: (path: string) => string | undefined;
  /** Link of `/proc/self/ns/pid`. */
  readonly pidNamespace: () => string;
}

const ownView: MountView = {
  mountinfo: () => readKernelFile("/proc/self/mountinfo"),
  realPath: (path) => Deno.realPathSync(path),
  identity: (path) => {
    try {
      const { dev, ino } = Deno.statSync(path);
      return `${dev}:${ino}`;
    } catch {
      return undefined;
    }
  },
  pidNamespace: () => Deno.readLinkSync("/proc/self/ns/pid"),
};

/** The first PID namespace has the same number in every kernel. */
const hostPidNamespace = "pid:[4026531836]";

/** Whether this process sees the host's processes, and so, most likely, the host's own mounts. */
export function isInHostPidNamespace(): boolean {
  try {
    return ownView.pidNamespace() === hostPidNamespace;
  } catch {
    return false;
  }
}

/**
 * Compares the bin dir that this process sees with the path that it is to have on the host.
 *
 * @param mounted The bin dir as this process sees it.
 * @param hostPath The path on the host that the plugin will be given.
 */
export function compareBinDir(
  mounted: string,
  hostPath: string,
  view: MountView = ownView,
): BinDirPath {
  try {
    const folder = view.identity(mounted);
    if (folder === undefined) return { kind: "unknown" };
    // With the host's processes in sight, the host's own root is, too.
    const isHost = view.pidNamespace() === hostPidNamespace;
    if (isHost && view.identity(`/proc/1/root${hostPath}`) === folder) return { kind: "likely" };
    const seen = pathOnFileSystem(view.realPath(mounted), view.mountinfo());
    if (seen === undefined) return { kind: "unknown" };
    // A file system of its own begins somewhere below the host's root; a link can make it longer.
    if (seen === "/" || hostPath.endsWith(seen) || seen.endsWith(hostPath)) {
      return { kind: "likely" };
    }
    if (view.identity(hostPath) === folder) return { kind: "likely" };
    return { kind: "other", seen };
  } catch {
    return { kind: "unknown" };
  }
}

/** Returns the mount that a path is on. */
function mountOf(path: string, mountinfo: string): Mount | undefined {
  let best: Mount | undefined;
  for (const mount of parseMounts(mountinfo)) {
    const { point } = mount;
    const isAbove = path === point || path.startsWith(point === "/" ? "/" : `${point}/`);
    // Of two mounts on one point the later one is on top.
    if (isAbove && point.length >= (best?.point.length ?? 0)) best = mount;
  }
  return best;
}

/** Returns the type of the file system that a path is on, for example `tmpfs`. */
export function fileSystemOf(path: string, mountinfo: string): string | undefined {
  return mountOf(path, mountinfo)?.type;
}

/** Returns a path from the root of the file system that it is on. */
export function pathOnFileSystem(path: string, mountinfo: string): string | undefined {
  const best = mountOf(path, mountinfo);
  if (best === undefined) return undefined;
  const rest = best.point === "/" ? path : path.slice(best.point.length);
  return `${best.root === "/" ? "" : best.root}${rest}` || "/";
}
