/**
 * A machine of the cluster: a network, mount and process namespace with folders of its own in place of
 * `/etc`, `/opt`, `/run`, `/var/lib` and `/var/log`, so that everything has its usual path there and
 * the real machine sees none of it. When its first process is killed, all that ran on it is gone at
 * once, as by a power cut; what was on its disks stays for the next start.
 */
import { cgroupName, removeCgroups } from "../../../scripts/e2e/cgroups.ts";
import { TASK_VARIABLE } from "../../../scripts/supervise.ts";
import { kernelSettings } from "./control_plane.ts";
import { type Output, outputOf } from "../../support/programs.ts";

/** What the machine's first process does; `$1` is the machine's folder. */
const init = `set -e
D=$1
mount --make-rprivate /
mount -t proc proc /proc
for p in /etc /opt /var/lib /var/log; do
  mkdir -p $D/over$p $D/work$p
  mount -t overlay overlay -o lowerdir=$p,upperdir=$D/over$p,workdir=$D/work$p $p
done
for p in /etc/cni /opt/cni /var/lib/cni /var/log/pods; do
  mkdir -p $p $D/host$p
  mount --bind $D/host$p $p
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /etc/cni/net.d /opt/cni/bin /run/netns
for f in $D/sysctl/*; do mount --bind $f /proc/sys/$(basename $f | tr : /); done
# A whole one: the kernel lets a user namespace mount its own proc only where it can see one.
mkdir -p $D/proc
mount -t proc proc $D/proc
mount --bind $D/kubelet $D/kubelet
mount --make-rshared /
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \\
  net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
echo $$ > $D/ready
trap 'exit 0' TERM INT
while :; do sleep 1000000 & wait $!; done
`;

/** A running machine; dispose of it to remove all that it was. */
export class Machine implements AsyncDisposable {
  readonly #daemons = new Map<string, Deno.ChildProcess>();
  #first = 0;
  #unshare: Deno.ChildProcess | undefined;

  private constructor(readonly name: string, readonly folder: string) {}

  /** Makes a machine and starts it. */
  static async start(name: string): Promise<Machine> {
    const folder = await Deno.makeTempDir({ prefix: `${name}-` });
    // Root of a pod's own user namespace is somebody else here, who has to find the pod's files.
    await Deno.chmod(folder, 0o755);
    const machine = new Machine(name, folder);
    for (const name of ["containerd", "log", "kubelet", "static", "sysctl"]) {
      await Deno.mkdir(`${folder}/${name}`);
    }
    for (const [setting, value] of Object.entries(kernelSettings)) {
      await Deno.writeTextFile(`${folder}/sysctl/${setting.replaceAll("/", ":")}`, `${value}\n`);
    }
    await Deno.writeTextFile(`${folder}/init.sh`, init);
    try {
      await machine.boot();
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
    return machine;
  }

  /** Its control group, below each controller; the name tells a later run whose it was. */
  get cgroup(): string {
    return cgroupName(Deno.env.get(TASK_VARIABLE) ?? `pid-${Deno.pid}`, this.name);
  }

  /** Process number of its first process, as seen from here. */
  get firstProcess(): number {
    return this.#first;
  }

  /** Path of its network namespace, as seen from here. */
  get networkNamespace(): string {
    return `/proc/${this.#first}/ns/net`;
  }

  /** Where a path of the machine is from here. */
  path(path: string): string {
    return `/proc/${this.#first}/root${path}`;
  }

  /** Starts the machine: its network and its processes are new, its disks are as they were. */
  async boot(): Promise<void> {
    const { folder } = this;
    await Deno.remove(`${folder}/ready`).catch(() => {});
    this.#unshare = new Deno.Command("setsid", {
      args: ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"].concat(
        ["sh", "-c", `exec sh ${folder}/init.sh ${folder} >${folder}/log/init 2>&1`],
      ),
      stdin: "null",
    }).spawn();
    const deadline = performance.now() + 20_000;
    while (!await isFile(`${folder}/ready`)) {
      if (performance.now() > deadline) {
        throw new Error(`Machine ${this.name} did not start: ${this.log("init")}`);
      }
      await pause(20);
    }
    const children = `/proc/${this.#unshare.pid}/task/${this.#unshare.pid}/children`;
    this.#first = Number(Deno.readTextFileSync(children).trim());
  }

  /** Cuts the power. */
  async cut(): Promise<void> {
    if (this.#first !== 0) Deno.kill(this.#first, "SIGKILL");
    await this.#unshare?.status;
    for (const child of this.#daemons.values()) await child.status;
    this.#daemons.clear();
    this.#first = 0;
    removeCgroups((name) => name === this.cgroup);
  }

  /** Runs a program on the machine. */
  async run(command: readonly string[], input = ""): Promise<Output> {
    const env = { HOME: this.folder };
    return await outputOf(["nsenter", ...this.#enter(), ...command], input, env);
  }

  /** Starts a program on the machine, with its standard output in a pipe. */
  spawn(command: readonly string[]): Deno.ChildProcess {
    return new Deno.Command("nsenter", {
      args: [...this.#enter(), ...command],
      env: { HOME: this.folder },
      stdin: "null",
      stdout: "piped",
    }).spawn();
  }

  /** Runs a program on the machine. @throws {Error} with what it said when it fails. */
  async must(...command: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(command);
    if (code === 0) return stdout;
    throw new Error(`"${command.join(" ")}" on ${this.name} failed: ${stderr.trim()}`);
  }

  /**
   * Starts a program that stays.
   *
   * @param path Folders in which it finds the programs that it starts, before the usual ones.
   */
  launch(name: string, command: readonly string[], path: readonly string[] = []): void {
    const script = `exec "$@" >>${this.folder}/log/${name} 2>&1`;
    this.#daemons.set(
      name,
      new Deno.Command("nsenter", {
        args: [...this.#enter(), "sh", "-c", script, "sh", ...command],
        clearEnv: true,
        env: {
          PATH: [...path, "/usr/sbin:/usr/bin:/sbin:/bin"].join(":"),
          HOME: this.folder,
        },
        stdin: "null",
      }).spawn(),
    );
  }

  /** Ends a program that was launched. */
  async stop(name: string, signal: Deno.Signal = "SIGKILL"): Promise<void> {
    const child = this.#daemons.get(name);
    this.#daemons.delete(name);
    if (child !== undefined) await this.end(child, signal);
  }

  /** Ends a program that was started on the machine. */
  async end(child: Deno.ChildProcess, signal: Deno.Signal = "SIGKILL"): Promise<void> {
    // nsenter waits for the program, which is its child in the other process namespace.
    const children = `/proc/${child.pid}/task/${child.pid}/children`;
    const pids = Deno.readTextFileSync(children).trim().split(" ").filter((pid) => pid !== "");
    for (const pid of pids) Deno.kill(Number(pid), signal);
    await child.status;
  }

  /** Fails with its log when a program that was launched has ended. */
  async assertRuns(): Promise<void> {
    for (const [name, child] of this.#daemons) {
      const status = await Promise.race([child.status, undefined]);
      if (status === undefined) continue;
      throw new Error(`${name} on ${this.name} ended with code ${status.code}: ${this.log(name)}`);
    }
  }

  /** The last lines of a program's log. */
  log(name: string, lines = 25): string {
    return Deno.readTextFileSync(`${this.folder}/log/${name}`).split("\n").slice(-lines).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cut();
    await Deno.remove(this.folder, { recursive: true });
  }

  #enter(): string[] {
    return [`--target=${this.#first}`, "--mount", "--net", "--pid", "--"];
  }
}

async function isFile(path: string): Promise<boolean> {
  return await Deno.stat(path).then(({ size }) => size > 0, () => false);
}

/** Waits for so many milliseconds. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
