/**
 * A real Kubernetes cluster of one node, in a network namespace of its own and with all its state in
 * one folder: etcd, API server, scheduler, controller manager, kubelet, kube-proxy and containerd.
 */
import { kubernetesPrograms } from "../../scripts/kubernetes.ts";
import { bridgeConflist, conflistName } from "./bridge_network.ts";
import { Containerd } from "./containerd.ts";
import {
  apiServerArgs,
  etcdArgs,
  kernelSettings,
  kubeletArgs,
  kubeletConfiguration,
  managerArgs,
  proxyArgs,
  schedulerArgs,
} from "./control_plane.ts";
import { exists } from "./files.ts";
import { type ClusterUser, Identities } from "./identities.ts";
import { kubectlSucceeded, must, type Output, outputOf } from "./programs.ts";

/** Address of the node, and of the API server, whose service has another one. */
const nodeAddress = "10.95.0.1";
const serviceRange = "10.96.0.0/16";
const serviceAddress = "10.96.0.1";
const node = "node-1";

const users: Readonly<Record<string, ClusterUser>> = {
  admin: { name: "admin", group: "system:masters" },
  kubelet: { name: `system:node:${node}`, group: "system:nodes" },
  manager: { name: "system:kube-controller-manager" },
  scheduler: { name: "system:kube-scheduler" },
  proxy: { name: "system:kube-proxy" },
};

/** Choices of a cluster. */
export interface ClusterOptions {
  /** Images to have on the node: tar archives with an OCI image layout. */
  readonly images?: readonly Uint8Array[];
}

/** A running cluster; dispose of it to remove every pod, process, mount and namespace of it. */
export class KubernetesCluster implements AsyncDisposable {
  /** Name of the only node. */
  readonly node: string = node;
  readonly folder: string;
  #identities!: Identities;
  readonly #daemons = new Map<string, Deno.ChildProcess>();
  readonly #logs = ["/var/log/pods", "/var/log/containers"].map((path) => new FixedFolder(path));

  private constructor(readonly containerd: Containerd, private readonly programs: string) {
    this.folder = `${containerd.folder}/kubernetes`;
    for (const name of ["etcd", "log", "kubelet", "settings", "manifests", "volume-plugins"]) {
      Deno.mkdirSync(`${this.folder}/${name}`, { recursive: true });
    }
  }

  /** Path of the network namespace that the node is in. */
  get networkNamespace(): string {
    return `/run/netns/${this.containerd.networkNamespace}`;
  }

  /** Starts everything and waits until the node is ready. */
  static async start(options: ClusterOptions = {}): Promise<KubernetesCluster> {
    const programs = await kubernetesPrograms();
    const containerd = await Containerd.start();
    const cluster = new KubernetesCluster(containerd, programs);
    try {
      Deno.writeTextFileSync(
        `${containerd.netDir}/${conflistName}`,
        bridgeConflist(`${containerd.folder}/ipam`),
      );
      for (const image of options.images ?? []) await containerd.importImage(image);
      cluster.#makeNetwork();
      await cluster.#writeIdentities();
      cluster.#start("etcd", "etcd", etcdArgs(cluster.folder));
      await cluster.startApiServer();
      cluster.#startControllers();
      cluster.#startKubelet();
      await cluster.until("the node is ready", async () => {
        const { stdout } = await cluster.run("get", "node", node, `-o=jsonpath=${readyCondition}`);
        return stdout === "True";
      }, 60_000);
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** Starts the API server and waits until it is ready. */
  async startApiServer(): Promise<void> {
    const { folder } = this;
    this.#start("kube-apiserver", `${this.programs}/kube-apiserver`, [
      ...apiServerArgs(folder, nodeAddress),
      // As in every newer version: a pod's token expires, and dies with the pod.
      "--feature-gates=BoundServiceAccountTokenVolume=true",
      `--service-cluster-ip-range=${serviceRange}`,
      "--service-account-issuer=https://kubernetes.default.svc",
    ]);
    await this.until(
      "the API server is ready",
      async () => (await this.run("get", "--raw=/readyz")).stdout === "ok",
      60_000,
    );
  }

  /** Kills the API server as a machine's failure does. */
  async killApiServer(): Promise<void> {
    await this.#stop("kube-apiserver", "SIGKILL");
  }

  /** Folder in which kubelet looks for static pods. */
  get staticPods(): string {
    return `${this.folder}/manifests`;
  }

  /** Runs kubectl as the administrator. */
  async run(...args: readonly string[]): Promise<Output> {
    return await this.#kubectl(args);
  }

  /** Runs kubectl and returns what it prints. @throws {Error} with its message when it fails. */
  async kubectl(...args: readonly string[]): Promise<string> {
    return kubectlSucceeded(args, await this.#kubectl(args));
  }

  /** Creates or changes objects. */
  async apply(...objects: readonly object[]): Promise<void> {
    const list = { apiVersion: "v1", kind: "List", items: objects };
    await this.kubectlWith(JSON.stringify(list), "apply", "--filename=-");
  }

  /** Runs kubectl with a text on its standard input. @throws {Error} as {@linkcode kubectl}. */
  async kubectlWith(input: string, ...args: readonly string[]): Promise<string> {
    return kubectlSucceeded(args, await this.#kubectl(args, input));
  }

  /** The API server's URL; only the node's network namespace has a way to it. */
  get server(): string {
    return `https://${nodeAddress}:6443`;
  }

  /** The administrator's bearer token. */
  get adminToken(): string {
    return this.#identities.token("admin");
  }

  /** The API server's certificate authority, PEM. */
  get certificateAuthority(): string {
    return this.#identities.certificateAuthority;
  }

  /** Reads an object, or whatever else stands at a path of the API. */
  async get(path: string): Promise<Record<string, unknown>> {
    return JSON.parse(await this.kubectl("get", `--raw=${path}`));
  }

  /** Runs a program in the node's network namespace. */
  async onNode(command: string, args: readonly string[], input = ""): Promise<Output> {
    return await outputOf(["nsenter", `--net=${this.networkNamespace}`, command, ...args], input);
  }

  /** The last lines of a daemon's log. */
  log(daemon: string, lines = 40): string {
    return Deno.readTextFileSync(`${this.folder}/log/${daemon}`).split("\n").slice(-lines)
      .join("\n");
  }

  /** Waits for a condition, or throws after so many milliseconds. */
  async until(
    what: string,
    condition: () => boolean | Promise<boolean>,
    milliseconds = 30_000,
  ): Promise<void> {
    const deadline = performance.now() + milliseconds;
    while (!await condition()) {
      for (const name of this.#daemons.keys()) await this.#assertRuns(name);
      if (performance.now() > deadline) {
        throw new Error(`Waited ${milliseconds} ms in vain until ${what}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Kubelet first, which would start pods anew; containerd removes them at its own end.
    for (const name of ["kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager"]) {
      await this.#stop(name, "SIGKILL");
    }
    // The API server would wait for its watchers for a minute.
    for (const name of ["kube-apiserver", "etcd"]) await this.#stop(name, "SIGKILL");
    await this.containerd[Symbol.asyncDispose]();
    for (const root of cgroupRoots("cgroup", "cgroup2")) removeCgroups(`${root}/${this.#cgroup}`);
    for (const folder of this.#logs) folder.restore();
  }

  get #cgroup(): string {
    return this.containerd.networkNamespace;
  }

  #makeNetwork(): void {
    const name = this.containerd.networkNamespace;
    const ip = (...args: string[]) => must("ip", "-n", name, ...args);
    // The kernel needs no dummy device where a bridge without ports does as well.
    ip("link", "add", "node0", "type", "bridge");
    ip("address", "add", `${nodeAddress}/32`, "dev", "node0");
    ip("link", "set", "node0", "up");
    ip("route", "add", serviceRange, "dev", "node0");
    // Kubelet asks a cloud's metadata service for the rights to a registry: there must be no way.
    ip("route", "add", "unreachable", "169.254.0.0/16");
    must("nsenter", `--net=${this.networkNamespace}`, "sysctl", "-qw", "net.ipv4.ip_forward=1");
  }

  async #writeIdentities(): Promise<void> {
    const ips = [nodeAddress, serviceAddress, "127.0.0.1"];
    this.#identities = await Identities.write(this.folder, ips, users);
    for (const user of Object.keys(users)) {
      const text = this.#identities.kubeconfig(this.server, user);
      Deno.writeTextFileSync(`${this.folder}/${user}.conf`, text, { mode: 0o600 });
    }
  }

  #startControllers(): void {
    const { folder, programs } = this;
    this.#start("kube-controller-manager", `${programs}/kube-controller-manager`, [
      ...managerArgs(folder),
      "--port=0",
    ]);
    this.#start("kube-scheduler", `${programs}/kube-scheduler`, [
      ...schedulerArgs(folder),
      "--port=0",
    ]);
    this.#start("kube-proxy", `${programs}/kube-proxy`, proxyArgs(folder, node));
  }

  #startKubelet(): void {
    const { folder } = this;
    const socket = `unix://${this.containerd.folder}/containerd.sock`;
    for (const root of cgroupRoots("cgroup")) Deno.mkdirSync(`${root}/${this.#cgroup}`);
    Deno.writeTextFileSync(
      `${folder}/kubelet.json`,
      JSON.stringify({
        ...kubeletConfiguration(folder, this.#cgroup),
        // It would make a folder at a fixed place of the machine.
        featureGates: { DevicePlugins: false },
        staticPodPath: this.staticPods,
      }),
    );
    const settings = Object.entries(kernelSettings).map(([name, value]) => {
      const file = `${folder}/settings/${name.replaceAll("/", ".")}`;
      Deno.writeTextFileSync(file, `${value}\n`);
      return `mount --bind "${file}" "/proc/sys/${name}"`;
    });
    // What kubelet mounts for pods must reach containerd, and nothing else anybody.
    must("mount", "--bind", `${folder}/kubelet`, `${folder}/kubelet`);
    must("mount", "--make-shared", `${folder}/kubelet`);
    // A kubelet that sees its kernel settings in place does not change the machine's.
    const script = ["mount --make-rprivate /proc", ...settings, 'exec "$@"'].join(" && ");
    this.#start("kubelet", "unshare", [
      "--mount",
      "--propagation=unchanged",
      "sh",
      "-c",
      script,
      "kubelet",
      `${this.programs}/kubelet`,
      ...kubeletArgs(folder, node, [nodeAddress]),
      "--container-runtime=remote",
      `--container-runtime-endpoint=${socket}`,
      `--containerd=${socket.slice("unix://".length)}`,
    ]);
  }

  #start(name: string, program: string, args: readonly string[]): void {
    const script = 'log="$1"; shift; exec "$@" >>"$log" 2>&1';
    const child = new Deno.Command("nsenter", {
      // `ip netns exec` would hide the cgroup tree.
      args: [
        `--net=${this.networkNamespace}`,
        "sh",
        "-c",
        script,
        "sh",
        `${this.folder}/log/${name}`,
        program,
        ...args,
      ],
      clearEnv: true,
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: this.folder },
      stdin: "null",
    }).spawn();
    this.#daemons.set(name, child);
  }

  async #stop(name: string, signal: Deno.Signal): Promise<void> {
    const child = this.#daemons.get(name);
    this.#daemons.delete(name);
    try {
      child?.kill(signal);
    } catch {
      // Has ended by itself.
    }
    await child?.status;
  }

  async #assertRuns(name: string): Promise<void> {
    const status = await Promise.race([this.#daemons.get(name)?.status, undefined]);
    if (status !== undefined) {
      throw new Error(`${name} has ended with code ${status.code}; its log:\n${this.log(name)}`);
    }
  }

  async #kubectl(args: readonly string[], input?: string): Promise<Output> {
    const first = [`--kubeconfig=${this.folder}/admin.conf`, `--cache-dir=${this.folder}/cache`];
    return await this.onNode(`${this.programs}/kubectl`, [...first, ...args], input);
  }
}

const readyCondition = '{.status.conditions[?(@.type=="Ready")].status}';

/** Roots of the cgroup file systems of these types; version 1 has one for each controller. */
function cgroupRoots(...types: readonly string[]): string[] {
  return Deno.readTextFileSync("/proc/self/mounts").split("\n").map((line) => line.split(" "))
    .filter(([, , type = ""]) => types.includes(type)).map(([, path]) => path!);
}

function removeCgroups(path: string): void {
  if (!exists(path)) return;
  for (const name of namesIn(path)) {
    if (Deno.lstatSync(`${path}/${name}`).isDirectory) removeCgroups(`${path}/${name}`);
  }
  Deno.removeSync(path);
}

function namesIn(folder: string): string[] {
  return exists(folder) ? [...Deno.readDirSync(folder)].map(({ name }) => name) : [];
}

/** A folder at a place that kubelet does not let anybody choose. */
class FixedFolder {
  readonly #before: ReadonlySet<string> | undefined;

  constructor(private readonly path: string) {
    this.#before = exists(path) ? new Set(namesIn(path)) : undefined;
  }

  /** Removes what has come since. */
  restore(): void {
    for (const name of namesIn(this.path)) {
      if (!this.#before?.has(name)) Deno.removeSync(`${this.path}/${name}`, { recursive: true });
    }
    if (this.#before === undefined && exists(this.path)) Deno.removeSync(this.path);
  }
}
