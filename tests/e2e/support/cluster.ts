/**
 * A Kubernetes cluster of today: the control plane and one node on the first machine, further nodes on
 * machines of their own, each with containerd 2 and the reference plugins, both address families.
 */
import {
  type KubernetesVersion,
  kubernetesVersions,
  part,
  program,
} from "../../../scripts/e2e/parts.ts";
import { makeCgroups } from "../../../scripts/e2e/cgroups.ts";
import {
  apiServerArgs,
  etcdArgs,
  kubeletArgs,
  managerArgs,
  proxyArgs,
  schedulerArgs,
} from "./control_plane.ts";
import { type ClusterUser, Identities } from "./identities.ts";
import { kubectlSucceeded, must, type Output } from "../../support/programs.ts";
import { Machine, pause } from "./machine.ts";
import {
  addressesOf,
  conflistName,
  conflistOf,
  containerdToml,
  kubeletJson,
  podRangesOf,
  socketOf,
} from "./node_files.ts";

export { conflistName, type KubernetesVersion, kubernetesVersions };

const serviceRanges = { ipv4: "10.96.0.0/16", ipv6: "fd96::/112" } as const;
const server = "https://10.95.0.1:6443";
const users: Readonly<Record<string, ClusterUser>> = {
  admin: { name: "admin", group: "system:masters" },
  manager: { name: "system:kube-controller-manager" },
  scheduler: { name: "system:kube-scheduler" },
  proxy: { name: "system:kube-proxy" },
};

/** Programs of others that make a cluster. */
export interface Programs {
  readonly kubernetes: string;
  readonly containerd: string;
  readonly etcd: string;
  readonly runc: string;
  readonly plugins: string;
  readonly kubectl: string;
}

/** Gets them, and makes them first when the cache has not got them. */
export async function programsOf(version: KubernetesVersion): Promise<Programs> {
  return {
    kubernetes: await part(`kubernetes-${version}`),
    containerd: await part("containerd"),
    etcd: await part("etcd"),
    runc: await part("runc"),
    plugins: await part("cni-plugins"),
    kubectl: await program("kubectl"),
  };
}

/** A node: its machine and what tells it from others. */
export interface ClusterNode {
  readonly machine: Machine;
  readonly number: number;
}

/** A running cluster; dispose of it to remove every machine of it. */
export class Cluster implements AsyncDisposable {
  readonly nodes: ClusterNode[] = [];
  #identities!: Identities;

  private constructor(readonly programs: Programs, private readonly images: readonly string[]) {}

  /**
   * Starts everything and waits until the node is ready.
   *
   * @param images Paths of archives with an OCI image layout, which every node gets.
   */
  static async start(version: KubernetesVersion, images: readonly string[]): Promise<Cluster> {
    const programs = await programsOf(version);
    const cluster = new Cluster(programs, images);
    try {
      await cluster.#addMachine();
      await cluster.#writeIdentities();
      await cluster.startControlPlane();
      await cluster.#startNode(cluster.nodes[0]!);
      await cluster.untilNodeReady("node1");
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** The machine with the control plane. */
  get first(): Machine {
    return this.nodes[0]!.machine;
  }

  /** Adds a node, without waiting for anything. */
  async addNode(): Promise<ClusterNode> {
    const node = await this.#addMachine();
    await this.#startNode(node);
    return node;
  }

  /** Runs kubectl as the administrator. */
  async tryKubectl(args: readonly string[], input?: string): Promise<Output> {
    return await this.first.run(this.#kubectlWith(args), input);
  }

  /** Starts kubectl with its standard output in a pipe. */
  spawnKubectl(args: readonly string[]): Deno.ChildProcess {
    return this.first.spawn(this.#kubectlWith(args));
  }

  /** Runs kubectl and returns what it prints. @throws {Error} with its message when it fails. */
  async kubectl(...args: readonly string[]): Promise<string> {
    return kubectlSucceeded(args, await this.tryKubectl(args));
  }

  /** Creates or changes objects. */
  async apply(...objects: readonly object[]): Promise<void> {
    await this.applyText(JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
  }

  /** Creates or changes the objects of a manifest. */
  async applyText(manifest: string): Promise<void> {
    const args = ["apply", "--filename=-"];
    kubectlSucceeded(args, await this.tryKubectl(args, manifest));
  }

  /** Reads what stands at a path of the API. */
  async get<T = Record<string, unknown>>(path: string): Promise<T> {
    return JSON.parse(await this.kubectl("get", `--raw=${path}`)) as T;
  }

  /** Waits for a condition, or throws after so many milliseconds. */
  async until(
    what: string,
    condition: () => boolean | Promise<boolean>,
    milliseconds = 60_000,
  ): Promise<void> {
    const deadline = performance.now() + milliseconds;
    while (!await condition()) {
      for (const { machine } of this.nodes) await machine.assertRuns();
      if (performance.now() > deadline) {
        throw new Error(`Waited ${milliseconds} ms in vain until ${what}`);
      }
      await pause(100);
    }
  }

  async untilNodeReady(name: string): Promise<void> {
    const condition = '{.status.conditions[?(@.type=="Ready")].status}';
    await this.until(`${name} is ready`, async () => {
      const { stdout } = await this.tryKubectl(["get", "node", name, `-o=jsonpath=${condition}`]);
      return stdout === "True";
    }, 120_000);
  }

  /** Starts etcd, API server, controllers and scheduler. */
  async startControlPlane(): Promise<void> {
    const { first, programs: { etcd, kubernetes } } = this;
    const { folder } = first;
    first.launch("etcd", [`${etcd}/etcd`, ...etcdArgs(folder)]);
    await this.startApiServer();
    // Kubelet restarts a control plane's static pods: the scheduler ends when the API server is away.
    const lasting = ["/bin/sh", "-c", 'while :; do "$@"; sleep 1; done', "sh"];
    const manager = `${kubernetes}/kube-controller-manager`;
    first.launch("controller-manager", [...lasting, manager, ...managerArgs(folder)]);
    const scheduler = `${kubernetes}/kube-scheduler`;
    first.launch("scheduler", [...lasting, scheduler, ...schedulerArgs(folder)]);
  }

  /** Starts the API server and waits until it is ready. */
  async startApiServer(): Promise<void> {
    const { folder } = this.first;
    this.first.launch("apiserver", [
      `${this.programs.kubernetes}/kube-apiserver`,
      ...apiServerArgs(folder, "10.95.0.1"),
      `--service-cluster-ip-range=${serviceRanges.ipv4},${serviceRanges.ipv6}`,
      "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
      // Else a pod's token lives for a year when it was asked for an hour.
      "--service-account-extend-token-expiration=false",
    ]);
    await this.until(
      "the API server is ready",
      async () => (await this.tryKubectl(["get", "--raw=/readyz"])).stdout === "ok",
      120_000,
    );
  }

  /** Cuts the power of a node and starts it again. The first one's has the control plane. */
  async reboot(node: ClusterNode): Promise<void> {
    await node.machine.cut();
    await node.machine.boot();
    await this.#makeNetwork(node);
    if (node === this.nodes[0]) await this.startControlPlane();
    await this.#startNode(node, true);
  }

  /** Starts containerd on a node and waits for its socket. */
  async startContainerd(node: ClusterNode): Promise<void> {
    const { machine } = node;
    const socket = socketOf(machine);
    await Deno.remove(socket).catch(() => {});
    const { containerd, runc } = this.programs;
    machine.launch("containerd", [
      `${containerd}/containerd`,
      `--config=${machine.folder}/containerd.toml`,
    ], [containerd, runc]);
    const deadline = performance.now() + 30_000;
    while ((await this.#ctr(machine, "version")).code !== 0) {
      if (performance.now() > deadline) {
        throw new Error(`containerd did not start: ${machine.log("containerd")}`);
      }
      await pause(50);
    }
  }

  startKubelet({ machine, number }: ClusterNode): void {
    machine.launch("kubelet", [
      `${this.programs.kubernetes}/kubelet`,
      ...kubeletArgs(machine.folder, machine.name, addressesOf(number)),
    ]);
  }

  /** Loads an image into every node. */
  async importImage(path: string): Promise<void> {
    for (const { machine } of this.nodes) await this.#import(machine, path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { machine } of this.nodes.toReversed()) await machine[Symbol.asyncDispose]();
  }

  #kubectlWith(args: readonly string[]): string[] {
    const { folder } = this.first;
    const flags = [`--kubeconfig=${folder}/admin.conf`, `--cache-dir=${folder}/kubectl-cache`];
    return [this.programs.kubectl, ...flags, ...args];
  }

  async #addMachine(): Promise<ClusterNode> {
    const number = (this.nodes.at(-1)?.number ?? 0) + 1;
    const node = { machine: await Machine.start(`node${number}`), number };
    this.nodes.push(node);
    await this.#makeNetwork(node);
    return node;
  }

  /** Gives a machine its addresses, and ways between it and the first one and their pods. */
  async #makeNetwork({ machine, number }: ClusterNode): Promise<void> {
    const ip = (...args: string[]) => machine.must("ip", ...args);
    // The kernel needs no dummy device where a bridge without ports does as well.
    await ip("link", "add", "node0", "type", "bridge");
    for (const address of addressesOf(number)) await ip("address", "add", address, "dev", "node0");
    await ip("link", "set", "node0", "up");
    // Kubelet asks a cloud's metadata service for the rights to a registry: there must be no way.
    await ip("route", "add", "unreachable", "169.254.0.0/16");
    if (number === 1) {
      await ip("route", "add", "default", "dev", "node0");
      await ip("-6", "route", "add", "default", "dev", "node0");
      return;
    }
    const link = `to-${machine.name}`;
    const first = (...args: string[]) => this.first.must("ip", ...args);
    must(
      "nsenter",
      `--net=${this.first.networkNamespace}`,
      ...["ip", "link", "add", link, "type", "veth", "peer", "name", "uplink"],
      ...["netns", String(machine.firstProcess)],
    );
    const gateway = { ipv4: `10.94.${number}`, ipv6: `fd94:${number}:` };
    await first("address", "add", `${gateway.ipv4}.1/24`, "dev", link);
    await first("address", "add", `${gateway.ipv6}:1/64`, "dev", link);
    await first("link", "set", link, "up");
    await ip("address", "add", `${gateway.ipv4}.2/24`, "dev", "uplink");
    await ip("address", "add", `${gateway.ipv6}:2/64`, "dev", "uplink");
    await ip("link", "set", "uplink", "up");
    const [node4, node6] = addressesOf(number) as [string, string];
    await ip("route", "add", "default", "via", `${gateway.ipv4}.1`, "src", node4);
    await ip("-6", "route", "add", "default", "via", `${gateway.ipv6}:1`, "src", node6);
    for (const target of [node4, podRangesOf(number).ipv4]) {
      await first("route", "add", target, "via", `${gateway.ipv4}.2`);
    }
    for (const target of [node6, podRangesOf(number).ipv6]) {
      await first("-6", "route", "add", target, "via", `${gateway.ipv6}:2`);
    }
  }

  async #startNode(node: ClusterNode, again = false): Promise<void> {
    const { machine, number } = node;
    if (!again) {
      for (const { name } of Deno.readDirSync(this.programs.plugins)) {
        const target = machine.path(`/opt/cni/bin/${name}`);
        await Deno.copyFile(`${this.programs.plugins}/${name}`, target);
      }
      const list = machine.path(`/etc/cni/net.d/${conflistName}`);
      await Deno.writeTextFile(list, conflistOf(number));
      await Deno.writeTextFile(`${machine.folder}/containerd.toml`, containerdToml(machine.folder));
      await Deno.writeTextFile(`${machine.folder}/kubelet.json`, kubeletJson(machine));
      await this.#writeKubeconfig(machine, "kubelet", `kubelet-${number}`);
      await this.#writeKubeconfig(machine, "proxy", "proxy");
    }
    await this.startContainerd(node);
    if (!again) { for (const image of this.images) await this.#import(machine, image); }
    makeCgroups(machine.cgroup);
    this.startKubelet(node);
    machine.launch("kube-proxy", [
      `${this.programs.kubernetes}/kube-proxy`,
      ...proxyArgs(machine.folder, machine.name),
      "--metrics-bind-address=127.0.0.1:10249",
    ]);
  }

  async #ctr(machine: Machine, ...args: readonly string[]): Promise<Output> {
    const ctr = `${this.programs.containerd}/ctr`;
    return await machine.run([ctr, `--address=${socketOf(machine)}`, "-n=k8s.io", ...args]);
  }

  async #import(machine: Machine, path: string): Promise<void> {
    const { code, stderr } = await this.#ctr(machine, "images", "import", path);
    if (code !== 0) throw new Error(`Cannot import ${path} into ${machine.name}: ${stderr}`);
  }

  async #writeIdentities(): Promise<void> {
    const kubelets = [1, 2, 3, 4].map((number): [string, ClusterUser] => [
      `kubelet-${number}`,
      { name: `system:node:node${number}`, group: "system:nodes" },
    ]);
    this.#identities = await Identities.write(
      this.first.folder,
      ["10.95.0.1", "10.96.0.1", "fd96::1", "127.0.0.1"],
      { ...users, ...Object.fromEntries(kubelets) },
    );
    for (const user of Object.keys(users)) await this.#writeKubeconfig(this.first, user, user);
  }

  async #writeKubeconfig(machine: Machine, name: string, user: string): Promise<void> {
    const text = this.#identities.kubeconfig(server, user);
    await Deno.writeTextFile(`${machine.folder}/${name}.conf`, text);
  }
}
