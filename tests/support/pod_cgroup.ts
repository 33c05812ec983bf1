/** A real cgroup of a pod, below a folder of the test's own. */
import { parseMounts } from "../../src/linux/mounts.ts";
import { readKernelFile } from "../../src/linux/kernel_file.ts";

/** A pod's cgroup, until disposed of. */
export interface PodCgroupBed extends Disposable {
  readonly uid: string;
  /** Folder that holds the pod's alone, as an administrator's `cgroup_path`. */
  readonly root: string;
  /** The pod's cgroup. */
  readonly path: string;
  /** A container's cgroup in it. */
  readonly container: string;
}

/** Where cgroup2 is mounted on this machine. */
export function cgroup2Mount(): string {
  const mounts = parseMounts(readKernelFile("/proc/self/mountinfo"));
  const found = mounts.find(({ type }) => type === "cgroup2");
  if (found === undefined) throw new Error("This machine has no cgroup2 file system");
  return found.point;
}

/** Makes cgroups as kubelet with systemd's driver does. */
export function makePodCgroup(uid: string = crypto.randomUUID()): PodCgroupBed {
  const root = `${cgroup2Mount()}/kuma-cni-test-${crypto.randomUUID().slice(0, 8)}`;
  const slices = [
    `${root}/kubepods.slice`,
    `${root}/kubepods.slice/kubepods-burstable.slice`,
  ];
  const path = `${slices[1]}/kubepods-burstable-pod${uid.replaceAll("-", "_")}.slice`;
  const container = `${path}/cri-containerd-test.scope`;
  const folders = [root, ...slices, path, container];
  const remove = () => {
    for (const folder of folders.toReversed()) {
      try {
        Deno.removeSync(folder);
      } catch { /* Not made, or a process of the test's is still in it. */ }
    }
  };
  try {
    for (const folder of folders) Deno.mkdirSync(folder);
  } catch (error) {
    remove();
    throw error;
  }
  return { uid, root, path, container, [Symbol.dispose]: remove };
}
