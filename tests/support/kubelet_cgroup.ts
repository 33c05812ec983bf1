/** A real cgroup of a pod at the place where kubelet makes it, below a folder of the test's own. */
import { PodCgroup, unifiedCgroups } from "./pod_cgroup.ts";
import { uniqueName } from "./topology.ts";

/** A pod's cgroup, until disposed of. */
export interface KubeletCgroup extends Disposable {
  readonly uid: string;
  /** Folder that holds the pod's alone, as an administrator's `cgroup_path`. */
  readonly root: string;
  readonly pod: PodCgroup;
}

/** Makes cgroups as kubelet with systemd's driver does. */
export function makeKubeletCgroup(uid: string = crypto.randomUUID()): KubeletCgroup {
  const root = `${unifiedCgroups()}/${uniqueName("kuma-kubelet-")}`;
  const slice = `${root}/kubepods.slice`;
  const parent = `${slice}/kubepods-burstable.slice`;
  using stack = new DisposableStack();
  for (const folder of [root, slice, parent]) {
    Deno.mkdirSync(folder);
    stack.defer(() => Deno.removeSync(folder));
  }
  const name = `kubepods-burstable-pod${uid.replaceAll("-", "_")}.slice`;
  const pod = stack.use(new PodCgroup(parent, name));
  const all = stack.move();
  return { uid, root, pod, [Symbol.dispose]: () => all.dispose() };
}
