/** A real cgroup of a pod, below a folder of the test's own. */
import { unifiedCgroups } from "./pod_cgroup.ts";

/** A pod's cgroup, until disposed of. */
export interface KubeletCgroup extends Disposable {
  readonly uid: string;
  /** Folder that holds the pod's alone, as an administrator's `cgroup_path`. */
  readonly root: string;
  /** The pod's cgroup. */
  readonly path: string;
  /** A container's cgroup in it. */
  readonly container: string;
}

/** Makes cgroups as kubelet with systemd's driver does. */
export function makeKubeletCgroup(uid: string = crypto.randomUUID()): KubeletCgroup {
  const root = `${unifiedCgroups()}/kuma-cni-test-${crypto.randomUUID().slice(0, 8)}`;
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
