/**
 * A cgroup of version 2 that stands for a pod's, and a BPF file system: what the eBPF engine works
 * on. A socket belongs for life to the cgroup in which it was created, so one thread can hold sockets
 * inside and outside.
 */
import { identityOf, isGone } from "../../scripts/task_owner.ts";
import { readKernelFile } from "../../src/linux/kernel_file.ts";
import { checked, cString } from "../../src/linux/libc.ts";
import { parseMounts } from "../../src/linux/mounts.ts";
import { uniqueName } from "./topology.ts";

const libc = Deno.dlopen("libc.so.6", {
  mount: { parameters: ["buffer", "buffer", "buffer", "usize", "pointer"], result: "i32" },
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
  syscall: { parameters: ["isize", "u32", "u32", "u32"], result: "isize" },
}).symbols;

const MNT_DETACH = 2;

/** Folder of the cgroups of version 2, also where version 1 has the controllers. */
export function unifiedCgroups(): string {
  const found = Deno.readTextFileSync("/proc/self/mounts").split("\n")
    .map((line) => line.split(" ")).find(([, , type]) => type === "cgroup2")?.[1];
  if (found === undefined) throw new Error("This machine has no cgroups of version 2");
  return found;
}

/** The cgroup of a pod; dispose of it to remove it. */
export class PodCgroup implements Disposable {
  readonly path: string;
  readonly #home: string;

  /** @param parent folder of another cgroup; the root unless told */
  constructor(parent: string = unifiedCgroups(), name: string = uniqueName("kuma-pod-")) {
    const own = /^0::(.*)$/m.exec(Deno.readTextFileSync("/proc/self/cgroup"))?.[1] ?? "/";
    this.#home = `${unifiedCgroups()}${own}`;
    this.path = `${parent}/${name}`;
    Deno.mkdirSync(this.path);
  }

  /** Does synchronous work with the whole process in the cgroup. */
  run<T>(work: () => T): T {
    this.#move(this.path);
    try {
      return work();
    } finally {
      this.#move(this.#home);
    }
  }

  #move(folder: string): void {
    Deno.writeTextFileSync(`${folder}/cgroup.procs`, `${Deno.pid}`);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path);
  }
}

/** A mounted BPF file system; disposing of it removes all that is pinned there. */
export class BpfFileSystem implements Disposable {
  readonly path: string;

  constructor() {
    removeStale();
    this.path = Deno.makeTempDirSync({ prefix: `${PREFIX}${identityOf(Deno.pid)}-` });
    const [path, type] = [cString(this.path), cString("bpf")];
    checked("Cannot mount a BPF file system", () => libc.mount(type, path, type, 0n, null));
  }

  [Symbol.dispose](): void {
    libc.umount2(cString(this.path), MNT_DETACH);
    Deno.removeSync(this.path);
  }
}

const PREFIX = "kuma-test-bpffs-";

/** What a run left that was killed, and that the test runner has not started: that has own mounts. */
function removeStale(): void {
  for (const { point } of parseMounts(readKernelFile("/proc/self/mountinfo"))) {
    const [, identity] = point.split(`/${PREFIX}`);
    if (identity === undefined || !isGone(identity.split("-")[0]!)) continue;
    libc.umount2(cString(point), MNT_DETACH);
    Deno.removeSync(point);
  }
}

const SETRESUID = { x86_64: 117n, aarch64: 147n }[Deno.build.arch];
const UNCHANGED = 0xffffffff;

/**
 * Runs `work` with another real user, which is what programs of the kernel ask for; the effective
 * user stays root. Only this thread changes: the C library's own function would change all.
 */
export function withRealUser<T>(uid: number, work: () => T): T {
  const set = (id: number) =>
    checked(
      `Cannot become user ${id}`,
      () => Number(libc.syscall(SETRESUID, id, UNCHANGED, UNCHANGED)),
    );
  set(uid);
  try {
    return work();
  } finally {
    set(0);
  }
}
