/**
 * Debian's real containerd, started by hand in a network namespace of its own, with all its state in
 * one folder, and driven over the Container Runtime Interface as a kubelet would.
 */
import { withNetworkNamespace } from "../../src/linux/network_namespace.ts";
import { imageArchive, makeImage } from "../../scripts/package/oci.ts";
import { writeSysctl } from "./topology.ts";
import { CriClient } from "./cri_client.ts";
import { networkOf, sandboxesOf } from "./cri_sandboxes.ts";
import { exists } from "./files.ts";
import { must } from "./programs.ts";

/** The image of the sandboxes: busybox, at `/bin/busybox`. */
export const IMAGE = "kuma-test.local/pause:1";
const CONTAINER_RUNNING = 1;

/** A pod sandbox that runs. */
export interface Sandbox {
  readonly id: string;
  /** Host path of its network namespace. */
  readonly networkNamespace: string;
  /** Its first address, and all of them. */
  readonly ip: string;
  readonly ips: readonly string[];
}

/** Programs that take the place of Debian's. */
export interface RuntimePrograms {
  /** Folder with `containerd`, its shim and `ctr`. */
  readonly containerd: string;
  /** Folder with `runc`. */
  readonly runc: string;
  /** Folder with the reference plugins. */
  readonly plugins: string;
}

/** What a kubelet tells about a pod. */
export interface SandboxRequest {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly dnsServers?: readonly string[];
  /** First of 65,536 users of the host that the pod's are: a user namespace of its own. */
  readonly firstUser?: number;
}

/** A running containerd; dispose of it to remove every sandbox, process, mount and namespace. */
export class Containerd implements AsyncDisposable {
  private constructor(
    readonly folder: string,
    readonly networkNamespace: string,
    private readonly process: Deno.ChildProcess,
    private readonly client: CriClient,
    private readonly path: string,
  ) {}

  /** Folder that containerd loads network configurations from. */
  get netDir(): string {
    return `${this.folder}/net.d`;
  }

  /** Folder that containerd runs plugins from. */
  get binDir(): string {
    return `${this.folder}/bin`;
  }

  /** What containerd has logged so far. */
  get log(): string {
    return Deno.readTextFileSync(`${this.folder}/log`);
  }

  /**
   * Starts containerd with the plugins of Debian's `containernetworking-plugins`.
   *
   * @param options.programs Others than Debian's.
   * @param options.conflists Network configurations, by file name, that are there from the start.
   */
  static async start(
    options: {
      readonly conflists?: Readonly<Record<string, string>>;
      readonly programs?: RuntimePrograms;
    } = {},
  ): Promise<Containerd> {
    const { programs } = options;
    const plugins = programs?.plugins ?? "/usr/lib/cni";
    const path = [programs?.containerd, programs?.runc, "/usr/sbin:/usr/bin:/sbin:/bin"]
      .filter((part) => part !== undefined).join(":");
    const folder = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "kuma-test-containerd-" });
    // The root of a pod with a user namespace of its own is nobody here, and has to get to its files.
    Deno.chmodSync(folder, 0o711);
    const networkNamespace = folder.slice(folder.lastIndexOf("/") + 1);
    for (const name of ["root", "state", "net.d", "bin"]) Deno.mkdirSync(`${folder}/${name}`);
    for (const plugin of Deno.readDirSync(plugins)) {
      await Deno.copyFile(`${plugins}/${plugin.name}`, `${folder}/bin/${plugin.name}`);
    }
    for (const [name, text] of Object.entries(options.conflists ?? {})) {
      Deno.writeTextFileSync(`${folder}/net.d/${name}`, text);
    }
    Deno.writeTextFileSync(`${folder}/config.toml`, configuration(folder));
    Deno.writeFileSync(
      `${folder}/pause.tar`,
      imageArchive(IMAGE, [makeImage({
        architecture: "amd64",
        files: [
          { path: "bin", kind: "folder" },
          { path: "bin/busybox", kind: "file", data: Deno.readFileSync("/bin/busybox") },
        ],
        entrypoint: ["/bin/busybox", "sleep", "1000000"],
        environment: ["PATH=/bin"],
        workingFolder: "/",
      })]),
    );
    must("ip", "netns", "add", networkNamespace);
    must("ip", "-n", networkNamespace, "link", "set", "lo", "up");
    withNetworkNamespace(`/run/netns/${networkNamespace}`, () => {
      // Nobody else can have the bridge's IPv6 address, so it is usable at once.
      for (const name of ["all", "default"]) writeSysctl(`net/ipv6/conf/${name}/accept_dad`, "0");
    });
    // `ip netns exec` would remount /sys and so hide the cgroup tree that runc needs.
    const process = new Deno.Command("nsenter", {
      args: [
        `--net=/run/netns/${networkNamespace}`,
        "sh",
        "-c",
        'exec containerd -c "$0/config.toml" >"$0/log" 2>&1',
        folder,
      ],
      clearEnv: true,
      env: { PATH: path, HOME: "/root" },
      stdin: "null",
    }).spawn();
    const socket = `${folder}/containerd.sock`;
    const containerd = new Containerd(
      folder,
      networkNamespace,
      process,
      new CriClient(socket),
      path,
    );
    try {
      await until(`socket ${socket}`, () => exists(socket));
      containerd.#importFile(`${folder}/pause.tar`);
    } catch (error) {
      await containerd[Symbol.asyncDispose]();
      throw error;
    }
    return containerd;
  }

  /** Starts a pod sandbox; throws what the runtime says when a plugin fails. */
  async runPodSandbox(request: SandboxRequest): Promise<Sandbox> {
    const { pod_sandbox_id: id } = await this.client.call("RunPodSandbox", {
      config: this.#sandboxConfig(request),
    });
    return await this.sandbox(id as string);
  }

  #sandboxConfig(request: SandboxRequest): Record<string, unknown> {
    return {
      metadata: {
        name: request.name,
        uid: request.uid,
        namespace: request.namespace,
        attempt: 0,
      },
      hostname: request.name,
      log_directory: `${this.folder}/pods`,
      dns_config: { servers: request.dnsServers ?? ["10.96.0.10"] },
      annotations: request.annotations ?? {},
      labels: {
        "io.kubernetes.pod.name": request.name,
        "io.kubernetes.pod.namespace": request.namespace,
        "io.kubernetes.pod.uid": request.uid,
      },
      linux: {
        cgroup_parent: `/kubepods/besteffort/pod${request.uid}`,
        ...(request.firstUser === undefined ? {} : ownUsers(request.firstUser)),
      },
    };
  }

  /**
   * Starts a container in a sandbox; its output goes to {@linkcode containerLog}.
   *
   * @param request What the sandbox was started with.
   * @param config The message ContainerConfig of the Container Runtime Interface, without log path.
   * @returns Its id.
   */
  async startContainer(
    sandbox: string,
    request: SandboxRequest,
    config: Readonly<Record<string, unknown>>,
  ): Promise<string> {
    const { container_id: id } = await this.client.call("CreateContainer", {
      pod_sandbox_id: sandbox,
      config: { ...config, log_path: `${sandbox}.log` },
      sandbox_config: this.#sandboxConfig(request),
    });
    await this.client.call("StartContainer", { container_id: id });
    return id as string;
  }

  /** What the container of a sandbox has written. */
  containerLog(sandbox: string): string {
    return Deno.readTextFileSync(`${this.folder}/pods/${sandbox}.log`);
  }

  /** Runs a program in a container, as an exec probe does; returns its exit code and output. */
  async execSync(
    container: string,
    command: readonly string[],
  ): Promise<{ code: number; output: string }> {
    const { exit_code: code, stdout, stderr } = await this.client.call("ExecSync", {
      container_id: container,
      cmd: command,
      timeout: 20,
    }) as { exit_code: number; stdout: Uint8Array; stderr: Uint8Array };
    const decoder = new TextDecoder();
    return { code, output: decoder.decode(stdout) + decoder.decode(stderr) };
  }

  /** Stops a container as a kubelet does, and returns its exit code. */
  async stopContainer(container: string, graceSeconds: number): Promise<number> {
    await this.client.call("StopContainer", { container_id: container, timeout: graceSeconds });
    return (await this.containerStatus(container)).exitCode;
  }

  /** Whether a container runs, how it ended, and the process that it has on the host. */
  async containerStatus(
    container: string,
  ): Promise<{ running: boolean; exitCode: number; pid: number }> {
    const { status, info } = await this.client.call("ContainerStatus", {
      container_id: container,
      verbose: true,
    }) as { status: { state: number; exit_code: number }; info: { info: string } };
    const { pid } = JSON.parse(info.info) as { pid: number };
    return { running: status.state === CONTAINER_RUNNING, exitCode: status.exit_code, pid };
  }

  /** Tells about a sandbox that runs. */
  async sandbox(id: string): Promise<Sandbox> {
    return { id, ...await networkOf(this.client, id) };
  }

  /** Stops a sandbox: the runtime calls DEL. */
  async stopPodSandbox(id: string): Promise<void> {
    await this.client.call("StopPodSandbox", { pod_sandbox_id: id });
  }

  /** Removes a sandbox: the runtime calls DEL again, without a network namespace. */
  async removePodSandbox(id: string): Promise<void> {
    await this.client.call("RemovePodSandbox", { pod_sandbox_id: id });
  }

  /** Ids of all sandboxes, ready or not. */
  async listPodSandboxes(): Promise<string[]> {
    return (await sandboxesOf(this.client)).map(({ id }) => id);
  }

  /** Imports an image for Kubernetes' pods from a tar archive with an OCI image layout. */
  async importImage(archive: Uint8Array): Promise<void> {
    const path = await Deno.makeTempFile({ dir: this.folder, suffix: ".tar" });
    await Deno.writeFile(path, archive);
    this.#importFile(path);
    await Deno.remove(path);
  }

  #importFile(path: string): void {
    const socket = `${this.folder}/containerd.sock`;
    must("env", `PATH=${this.path}`, "ctr", "-a", socket, "-n", "k8s.io", "images", "import", path);
  }

  /** Whether the runtime says that its network is ready, with its reason when not. */
  async networkReady(): Promise<{ ready: boolean; message: string }> {
    const { status } = await this.client.call("Status", {}) as {
      status: { conditions: { type: string; status: boolean; message: string }[] };
    };
    const condition = status.conditions.find(({ type }) => type === "NetworkReady");
    return { ready: condition?.status === true, message: condition?.message ?? "" };
  }

  /** Types of the plugins that it calls for a pod now, in their order. */
  async loadedPlugins(): Promise<string[]> {
    const { info } = await this.client.call("Status", { verbose: true }) as {
      info: { cniconfig: string };
    };
    const { Networks } = JSON.parse(info.cniconfig) as {
      Networks: { IFName: string; Config: { Plugins: { Network: { type: string } }[] } }[];
    };
    const pods = Networks.find(({ IFName }) => IFName === "eth0");
    return pods?.Config.Plugins.map(({ Network }) => Network.type) ?? [];
  }

  /** Waits until it calls these plugins for a pod: it notices changed files a moment later. */
  async untilLoaded(...types: readonly string[]): Promise<void> {
    const wanted = types.join();
    let actual = "";
    for (let attempt = 0; attempt < 500; attempt++) {
      actual = (await this.loadedPlugins()).join();
      if (actual === wanted) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`Waited 10 s in vain for containerd to load ${wanted}; it has ${actual}`);
  }

  /** Processes that it has started and that are still there: their command lines. */
  leftProcesses(): string[] {
    return processesNaming(`${this.folder}/`).filter(({ pid }) => pid !== this.process.pid)
      .map(({ commandLine }) => commandLine);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      for (const id of await this.listPodSandboxes()) {
        await this.stopPodSandbox(id);
        await this.removePodSandbox(id);
      }
    } catch {
      // A runtime that never came up, or whose plugin is gone: what is left is swept below.
    }
    this.client.close();
    try {
      this.process.kill("SIGTERM");
    } catch {
      // Has ended by itself.
    }
    await this.process.status;
    this.#killLeftovers();
    const mounts = Deno.readTextFileSync("/proc/self/mounts").split("\n")
      .map((line) => line.split(" ")[1] ?? "")
      .filter((path) => path.startsWith(this.folder + "/"));
    for (const path of mounts.reverse()) tryRun("umount", path);
    for (const root of Deno.readDirSync("/sys/fs/cgroup")) {
      removeCgroups(`/sys/fs/cgroup/${root.name}/kubepods`);
    }
    tryRun("ip", "netns", "del", this.networkNamespace);
    await Deno.remove(this.folder, { recursive: true }).catch(() => {});
  }

  /** Kills shims that outlived containerd; they carry our folder in their arguments. */
  #killLeftovers(): void {
    for (const { pid } of processesNaming(this.folder)) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // Has ended meanwhile.
      }
    }
  }
}

function processesNaming(text: string): { pid: number; commandLine: string }[] {
  return [...Deno.readDirSync("/proc")].flatMap(({ name }) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const commandLine = Deno.readTextFileSync(`/proc/${name}/cmdline`).replaceAll("\0", " ");
      return commandLine.includes(text) ? [{ pid: Number(name), commandLine }] : [];
    } catch {
      // Has ended meanwhile.
      return [];
    }
  });
}

/** What a kubelet asks for a pod with `hostUsers: false`. */
function ownUsers(host_id: number): Record<string, unknown> {
  const mapping = [{ host_id, container_id: 0, length: 65536 }];
  const userns_options = { mode: 0, uids: mapping, gids: mapping };
  return { security_context: { namespace_options: { userns_options } } };
}

/** The second form of the file, which 2.x takes as well. */
function configuration(folder: string): string {
  return `version = 2
root = "${folder}/root"
state = "${folder}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
  address = "${folder}/containerd.sock"
[ttrpc]
  address = "${folder}/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${folder}/bin"
    conf_dir = "${folder}/net.d"
    max_conf_num = 1
`;
}

function removeCgroups(path: string): void {
  try {
    for (const entry of Deno.readDirSync(path)) {
      if (entry.isDirectory) removeCgroups(`${path}/${entry.name}`);
    }
    Deno.removeSync(path);
  } catch {
    // Not there, or still in use by somebody else's pod.
  }
}

function tryRun(command: string, ...args: string[]): void {
  new Deno.Command(command, { args, stdin: "null", stdout: "null", stderr: "null" }).outputSync();
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`Waited 10 s in vain for ${what}`);
}
