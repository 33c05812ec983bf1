/** Control groups of one's own making, named as kubelet names those of pods. */

/** Folders of hierarchies in which a test may make groups: version 2, else one of version 1. */
const hierarchies = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"];

function hierarchy(): string {
  const found = hierarchies.find((path) => {
    try {
      return Deno.statSync(`${path}/cgroup.procs`).isFile;
    } catch {
      return false;
    }
  });
  if (found === undefined) throw new Error(`No cgroup hierarchy is in ${hierarchies.join(", ")}`);
  return found;
}

/** A tree of groups below one of a unique name; goes at the end, when its processes have. */
export class CgroupTree implements Disposable {
  readonly #root: string;
  readonly #made: string[] = [];

  /** @param name Unique to the test's run. */
  constructor(name: string) {
    this.#root = `${hierarchy()}/${name}`;
    this.#make(this.#root);
  }

  /** Puts a process into a group, which is made when it is missing. */
  put(pid: number, path: string): void {
    let folder = this.#root;
    for (const part of path.split("/")) this.#make(folder = `${folder}/${part}`);
    Deno.writeTextFileSync(`${folder}/cgroup.procs`, String(pid));
  }

  #make(path: string): void {
    if (this.#made.includes(path)) return;
    Deno.mkdirSync(path);
    this.#made.push(path);
  }

  [Symbol.dispose](): void {
    for (const path of this.#made.reverse()) {
      for (let tries = 0;; tries++) {
        try {
          Deno.removeSync(path);
          break;
        } catch (error) {
          // A process that was just killed stays in its group for a moment.
          if (tries === 200) throw error;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
        }
      }
    }
  }
}
