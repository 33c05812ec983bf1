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
import { makeAuthority } from "../../support/certificates.ts";
import { Machine, type Output, pause } from "./machine.ts";

export { type KubernetesVersion, kubernetesVersions };

const serviceRanges = { ipv4: "10.96.0.0/16", ipv6: "fd96::/112" } as const;
const server = "https://10.95.0.1:6443";
const users = {
  admin: { name: "admin", group: "system:masters" },
  manager: { name: "system:kube-controller-manager" },
  scheduler: { name: "system:kube-scheduler" },
  proxy: { name: "system:kube-proxy" },
} as const;

/** Name of the primary plugin's list in each node's net dir. */
export const conflistName = "10-bridge.conflist";

/** Programs of others that make a cluster. */
interface Programs {
  readonly kubernetes: string;
  readonly containerd: string;
  readonly etcd: string;
  readonly runc: string;
  readonly plugins: string;
  readonly kubectl: string;
}

/** A node: its machine and what tells it from others. */
export interface ClusterNode {
  readonly machine: Machine;
  readonly number: number;
}

/** A running cluster; dispose of it to remove every machine of it. */
export class Cluster implements AsyncDisposable {
  readonly nodes: ClusterNode[] = [];
  readonly #tokens = new Map<string, string>();

  private constructor(readonly programs: Programs, private readonly images: readonly string[]) {}

  /**
   * Starts everything and waits until the node is ready.
   *
   * @param images Paths of archives with an OCI image layout, which every node gets.
   */
  static async start(version: KubernetesVersion, images: readonly string[]): Promise<Cluster> {
    const programs: Programs = {
      kubernetes: await part(`kubernetes-${version}`),
      containerd: await part("containerd"),
      etcd: await part("etcd"),
      runc: await part("runc"),
      plugins: await part("cni-plugins"),
      kubectl: await program("kubectl"),
    };
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

  /** Takes a node away: its machine, then its object. */
  async removeNode(node: ClusterNode): Promise<void> {
    this.nodes.splice(this.nodes.indexOf(node), 1);
    await node.machine[Symbol.asyncDispose]();
    await this.kubectl("delete", "node", nameOf(node));
  }

  /** Runs kubectl as the administrator. */
  async tryKubectl(args: readonly string[], input?: string): Promise<Output> {
    const { folder } = this.first;
    const flags = [`--kubeconfig=${folder}/admin.conf`, `--cache-dir=${folder}/kubectl-cache`];
    return await this.first.run([this.programs.kubectl, ...flags, ...args], input);
  }

  /** Runs kubectl and returns what it prints. @throws {Error} with its message when it fails. */
  async kubectl(...args: readonly string[]): Promise<string> {
    return this.#succeeded(args, await this.tryKubectl(args));
  }

  /** Creates or changes objects. */
  async apply(...objects: readonly object[]): Promise<void> {
    await this.applyText(JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
  }

  /** Creates or changes the objects of a manifest. */
  async applyText(manifest: string): Promise<void> {
    const args = ["apply", "--filename=-"];
    this.#succeeded(args, await this.tryKubectl(args, manifest));
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
    first.launch("etcd", [
      `${etcd}/etcd`,
      `--data-dir=${folder}/etcd`,
      "--listen-client-urls=http://127.0.0.1:2379",
      "--advertise-client-urls=http://127.0.0.1:2379",
      "--listen-peer-urls=http://127.0.0.1:2380",
      "--initial-advertise-peer-urls=http://127.0.0.1:2380",
      "--initial-cluster=default=http://127.0.0.1:2380",
      "--unsafe-no-fsync",
    ]);
    await this.startApiServer();
    const kubeconfig = (user: string) =>
      ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
        .map((flag) => `--${flag}=${folder}/${user}.conf`);
    const common = ["--bind-address=127.0.0.1", "--leader-elect=false"];
    // Kubelet restarts a control plane's static pods: the scheduler ends when the API server is away.
    const lasting = ["/bin/sh", "-c", 'while :; do "$@"; sleep 1; done', "sh"];
    first.launch("controller-manager", [
      ...lasting,
      `${kubernetes}/kube-controller-manager`,
      ...kubeconfig("manager"),
      ...common,
      `--cert-dir=${folder}/manager`,
      `--service-account-private-key-file=${folder}/accounts.key`,
      `--root-ca-file=${folder}/authority.crt`,
      "--use-service-account-credentials=true",
    ]);
    first.launch("scheduler", [
      ...lasting,
      `${kubernetes}/kube-scheduler`,
      ...kubeconfig("scheduler"),
      ...common,
      `--cert-dir=${folder}/scheduler`,
    ]);
  }

  /** Starts the API server and waits until it is ready. */
  async startApiServer(): Promise<void> {
    const { folder } = this.first;
    this.first.launch("apiserver", [
      `${this.programs.kubernetes}/kube-apiserver`,
      "--etcd-servers=http://127.0.0.1:2379",
      "--bind-address=10.95.0.1",
      "--advertise-address=10.95.0.1",
      "--secure-port=6443",
      `--cert-dir=${folder}/api-server`,
      `--tls-cert-file=${folder}/api-server.crt`,
      `--tls-private-key-file=${folder}/api-server.key`,
      `--token-auth-file=${folder}/tokens.csv`,
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      `--service-cluster-ip-range=${serviceRanges.ipv4},${serviceRanges.ipv6}`,
      "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
      `--service-account-key-file=${folder}/accounts.crt`,
      `--service-account-signing-key-file=${folder}/accounts.key`,
      // Else a pod's token lives for a year when it was asked for an hour.
      "--service-account-extend-token-expiration=false",
      "--kubelet-preferred-address-types=InternalIP",
      "--allow-privileged=true",
      "--shutdown-delay-duration=0s",
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

  startKubelet({ machine }: ClusterNode): void {
    const { folder } = machine;
    machine.launch("kubelet", [
      `${this.programs.kubernetes}/kubelet`,
      `--config=${folder}/kubelet.json`,
      `--kubeconfig=${folder}/kubelet.conf`,
      `--root-dir=${folder}/kubelet`,
      `--cert-dir=${folder}/kubelet/pki`,
      `--hostname-override=${machine.name}`,
      `--node-ip=${addressesOf(this.#numberOf(machine)).join(",")}`,
      "--v=2",
    ]);
  }

  /** Loads an image into every node. */
  async importImage(path: string): Promise<void> {
    for (const { machine } of this.nodes) await this.#import(machine, path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { machine } of this.nodes.toReversed()) await machine[Symbol.asyncDispose]();
  }

  #numberOf(machine: Machine): number {
    return this.nodes.find((node) => node.machine === machine)!.number;
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
    await run(
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
      `--kubeconfig=${machine.folder}/proxy.conf`,
      `--hostname-override=${machine.name}`,
      "--proxy-mode=iptables",
      "--healthz-bind-address=127.0.0.1:10256",
      "--metrics-bind-address=127.0.0.1:10249",
      "--conntrack-max-per-core=0",
      "--conntrack-tcp-timeout-established=0",
      "--conntrack-tcp-timeout-close-wait=0",
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
    const authority = await makeAuthority();
    const identity = await authority.issue({
      commonName: "kube-apiserver",
      ips: ["10.95.0.1", "10.96.0.1", "fd96::1", "127.0.0.1"],
      dnsNames: ["kubernetes", "kubernetes.default", "kubernetes.default.svc"],
    });
    const accounts = await authority.issue({ commonName: "service-accounts" });
    const write = (name: string, text: string) =>
      Deno.writeTextFile(`${this.first.folder}/${name}`, text, { mode: 0o600 });
    await write("authority.crt", authority.certificate);
    await write("api-server.crt", identity.certificate);
    await write("api-server.key", identity.key);
    await write("accounts.crt", accounts.certificate);
    await write("accounts.key", accounts.key);
    const lines: string[] = [];
    const kubelets = [1, 2, 3, 4].map((number) =>
      [`kubelet-${number}`, { name: `system:node:node${number}`, group: "system:nodes" }] as const
    );
    for (const [user, { name, ...more }] of [...Object.entries(users), ...kubelets]) {
      this.#tokens.set(user, crypto.randomUUID());
      const group = "group" in more ? [`"${more.group}"`] : [];
      lines.push([this.#tokens.get(user), name, lines.length, ...group].join());
    }
    await write("tokens.csv", lines.join("\n") + "\n");
    for (const user of Object.keys(users)) await this.#writeKubeconfig(this.first, user, user);
  }

  async #writeKubeconfig(machine: Machine, name: string, user: string): Promise<void> {
    const authority = await Deno.readTextFile(`${this.first.folder}/authority.crt`);
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{
        name: "test",
        cluster: { server, "certificate-authority-data": btoa(authority) },
      }],
      users: [{ name: user, user: { token: this.#tokens.get(user) } }],
      contexts: [{ name: "test", context: { cluster: "test", user } }],
      "current-context": "test",
    };
    await Deno.writeTextFile(`${machine.folder}/${name}.conf`, JSON.stringify(config));
  }

  #succeeded(args: readonly string[], { code, stdout, stderr }: Output): string {
    if (code !== 0) throw new Error(`"kubectl ${args.join(" ")}" failed: ${stderr.trim()}`);
    return stdout;
  }
}

/** Name of a node's object. */
export function nameOf({ machine }: ClusterNode): string {
  return machine.name;
}

function addressesOf(number: number): readonly [string, string] {
  return [`10.95.0.${number}`, `fd95::${number}`];
}

function podRangesOf(number: number): { readonly ipv4: string; readonly ipv6: string } {
  return { ipv4: `10.${87 + number}.0.0/16`, ipv6: `fd88:${number}::/64` };
}

function socketOf({ folder }: Machine): string {
  return `${folder}/containerd.sock`;
}

/** The primary plugin's list, with odd formatting, which nobody may change. */
function conflistOf(number: number): string {
  const { ipv4, ipv6 } = podRangesOf(number);
  return `{
  "name":"k8s-pod-network",   "cniVersion" : "1.1.0",
  "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "mtu": 1400.0,
      "ipam": { "type": "host-local",
        "ranges": [ [{ "subnet": "${ipv4}" }], [{ "subnet": "${ipv6}" }] ],
        "routes": [ { "dst": "0.0.0.0/0" }, { "dst": "::/0" } ] } },
    { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }
  ]
}
`;
}

function containerdToml(folder: string): string {
  return `version = 3
root = "${folder}/containerd/root"
state = "${folder}/containerd/state"
# They make folders at fixed places.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
  address = "${folder}/containerd.sock"
[ttrpc]
  address = "${folder}/containerd.sock.ttrpc"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "e2e.local/box:1"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  # Without the right to lower it, runc would fail to set the score of a pod.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    conf_dir = "/etc/cni/net.d"
    bin_dirs = ["/opt/cni/bin"]
    max_conf_num = 1
`;
}

function kubeletJson(machine: Machine): string {
  const { folder } = machine;
  const little = "0.1%";
  return JSON.stringify({
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: "AlwaysAllow" },
    cgroupDriver: "cgroupfs",
    // It ends every pod that it does not know below this group: the group is ours alone.
    cgroupRoot: `/${machine.cgroup}`,
    failCgroupV1: false,
    failSwapOn: false,
    healthzPort: 0,
    readOnlyPort: 0,
    clusterDNS: ["10.96.0.10"],
    clusterDomain: "cluster.local",
    resolvConf: "",
    makeIPTablesUtilChains: false,
    containerRuntimeEndpoint: `unix://${folder}/containerd.sock`,
    evictionHard: {
      "memory.available": "1Mi",
      "nodefs.available": little,
      "imagefs.available": little,
      "nodefs.inodesFree": little,
      "imagefs.inodesFree": little,
    },
    syncFrequency: "2s",
    nodeStatusUpdateFrequency: "1s",
    fileCheckFrequency: "1s",
    staticPodPath: `${folder}/static`,
    volumePluginDir: `${folder}/volume-plugins`,
  });
}

async function run(command: string, ...args: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args: [...args], stdin: "null" })
    .output();
  if (success) return;
  const reason = new TextDecoder().decode(stderr).trim();
  throw new Error(`"${command} ${args.join(" ")}" failed: ${reason}`);
}
