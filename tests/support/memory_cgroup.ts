/** A cgroup with a bound of memory, of version 1 or 2, whichever has the machine's controller. */

/** The bounded cgroup; its processes must have ended before it goes. */
export class MemoryCgroup implements Disposable {
  readonly path: string;
  readonly #isOld: boolean;

  /** @throws when the machine has no controller for memory. */
  constructor(bytes: number) {
    const root = rootOfMemory();
    this.#isOld = root.isOld;
    this.path = `${root.path}/kuma-test-${crypto.randomUUID().slice(0, 8)}`;
    Deno.mkdirSync(this.path);
    const limit = this.#isOld ? "memory.limit_in_bytes" : "memory.max";
    Deno.writeTextFileSync(`${this.path}/${limit}`, String(bytes));
  }

  /** Bytes of files in memory that count towards the bound. */
  get fileBytes(): number {
    const stat = Deno.readTextFileSync(`${this.path}/memory.stat`);
    const key = this.#isOld ? "total_cache" : "file";
    return Number(new RegExp(`^${key} (\\d+)$`, "m").exec(stat)?.[1]);
  }

  /** How often the bound was met. */
  get hits(): number {
    if (this.#isOld) return Number(Deno.readTextFileSync(`${this.path}/memory.failcnt`));
    const events = Deno.readTextFileSync(`${this.path}/memory.events`);
    return Number(/^max (\d+)$/m.exec(events)?.[1]);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path);
  }
}

function rootOfMemory(): { readonly path: string; readonly isOld: boolean } {
  for (const line of Deno.readTextFileSync("/proc/self/mounts").split("\n")) {
    const [, path = "", type, options = ""] = line.split(" ");
    if (type === "cgroup" && options.split(",").includes("memory")) return { path, isOld: true };
    if (type !== "cgroup2") continue;
    const controllers = Deno.readTextFileSync(`${path}/cgroup.controllers`).trim().split(" ");
    if (!controllers.includes("memory")) continue;
    Deno.writeTextFileSync(`${path}/cgroup.subtree_control`, "+memory");
    return { path, isOld: false };
  }
  throw new Error("This machine has no cgroup controller for memory");
}
