/**
 * A real Kubernetes cluster of one node, in a network namespace of its own and with all its state in
 * one folder: etcd, API server, scheduler, controller manager, kubelet, kube-proxy and containerd.
 */
import { kubernetesPrograms } from "../../scripts/kubernetes.ts";
import { makeAuthority } from "./certificates.ts";
import { Containerd } from "./containerd.ts";
import { exists } from "./files.ts";

/** Address of the node, and of the API server, whose service has another one. */
const nodeAddress = "10.95.0.1";
const serviceRange = "10.96.0.0/16";
const serviceAddress = "10.96.0.1";
const node = "node-1";

/** Name of the primary plugin's list in the node's net dir. */
export const conflistName = "10-bridge.conflist";
/** Addresses of the bridge that the primary plugin makes on the node. */
export const bridgeAddress = { ipv4: "10.88.0.1", ipv6: "fd88::1" } as const;

const users = {
  admin: { name: "admin", group: "system:masters" },
  kubelet: { name: `system:node:${node}`, group: "system:nodes" },
  manager: { name: "system:kube-controller-manager" },
  scheduler: { name: "system:kube-scheduler" },
  proxy: { name: "system:kube-proxy" },
} as const;

/** Kernel settings that kubelet wants to change; they are the whole machine's. */
const kernelSettings = {
  "vm/overcommit_memory": 1,
  "vm/panic_on_oom": 0,
  "kernel/panic": 10,
  "kernel/panic_on_oops": 1,
  "kernel/keys/root_maxkeys": 1000000,
  "kernel/keys/root_maxbytes": 25000000,
} as const;

/** What a program that was run has said. */
export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

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
  readonly #tokens = new Map<string, string>();
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
      Deno.writeTextFileSync(`${containerd.netDir}/${conflistName}`, conflist(containerd.folder));
      for (const image of options.images ?? []) await containerd.importImage(image);
      cluster.#makeNetwork();
      await cluster.#writeIdentities();
      cluster.#start("etcd", "etcd", [
        `--data-dir=${cluster.folder}/etcd`,
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
      ]);
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
      "--etcd-servers=http://127.0.0.1:2379",
      `--bind-address=${nodeAddress}`,
      `--advertise-address=${nodeAddress}`,
      "--secure-port=6443",
      `--cert-dir=${folder}/api-server`,
      `--tls-cert-file=${folder}/api-server.crt`,
      `--tls-private-key-file=${folder}/api-server.key`,
      `--token-auth-file=${folder}/tokens.csv`,
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      // As in every newer version: a pod's token expires, and dies with the pod.
      "--feature-gates=BoundServiceAccountTokenVolume=true",
      `--service-cluster-ip-range=${serviceRange}`,
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${folder}/accounts.crt`,
      `--service-account-signing-key-file=${folder}/accounts.key`,
      "--kubelet-preferred-address-types=InternalIP",
      "--allow-privileged=true",
      "--shutdown-delay-duration=0s",
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
    return succeeded(args, await this.#kubectl(args));
  }

  /** Creates or changes objects. */
  async apply(...objects: readonly object[]): Promise<void> {
    const list = { apiVersion: "v1", kind: "List", items: objects };
    await this.kubectlWith(JSON.stringify(list), "apply", "--filename=-");
  }

  /** Runs kubectl with a text on its standard input. @throws {Error} as {@linkcode kubectl}. */
  async kubectlWith(input: string, ...args: readonly string[]): Promise<string> {
    return succeeded(args, await this.#kubectl(args, input));
  }

  /** The API server's URL; only the node's network namespace has a way to it. */
  get server(): string {
    return `https://${nodeAddress}:6443`;
  }

  /** The administrator's bearer token. */
  get adminToken(): string {
    return this.#tokens.get("admin")!;
  }

  /** The API server's certificate authority, PEM. */
  get certificateAuthority(): string {
    return Deno.readTextFileSync(`${this.folder}/authority.crt`);
  }

  /** Reads an object, or whatever else stands at a path of the API. */
  async get(path: string): Promise<Record<string, unknown>> {
    return JSON.parse(await this.kubectl("get", `--raw=${path}`));
  }

  /** Runs a program in the node's network namespace. */
  async onNode(command: string, args: readonly string[], input = ""): Promise<Output> {
    const child = new Deno.Command("nsenter", {
      args: [`--net=${this.networkNamespace}`, command, ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const output = child.output();
    const stdin = child.stdin.getWriter();
    // A program that fails at once does not read what it is given.
    await stdin.write(new TextEncoder().encode(input)).then(() => stdin.close()).catch(() => {});
    const { code, stdout, stderr } = await output;
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
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
    const authority = await makeAuthority();
    const server = await authority.issue({
      commonName: "kube-apiserver",
      ips: [nodeAddress, serviceAddress, "127.0.0.1"],
      dnsNames: ["kubernetes", "kubernetes.default", "kubernetes.default.svc"],
    });
    const accounts = await authority.issue({ commonName: "service-accounts" });
    const write = (name: string, text: string) =>
      Deno.writeTextFileSync(`${this.folder}/${name}`, text, { mode: 0o600 });
    write("authority.crt", authority.certificate);
    write("api-server.crt", server.certificate);
    write("api-server.key", server.key);
    write("accounts.crt", accounts.certificate);
    write("accounts.key", accounts.key);
    for (const user of Object.keys(users)) this.#tokens.set(user, crypto.randomUUID());
    write(
      "tokens.csv",
      Object.entries(users).map(([user, { name, ...more }], index) =>
        [this.#tokens.get(user), name, index, ..."group" in more ? [`"${more.group}"`] : []].join()
      ).join("\n") + "\n",
    );
    for (const [user, token] of this.#tokens) {
      write(
        `${user}.conf`,
        JSON.stringify({
          apiVersion: "v1",
          kind: "Config",
          clusters: [{
            name: "test",
            cluster: {
              server: this.server,
              "certificate-authority": `${this.folder}/authority.crt`,
            },
          }],
          users: [{ name: user, user: { token } }],
          contexts: [{ name: "test", context: { cluster: "test", user } }],
          "current-context": "test",
        }),
      );
    }
  }

  #startControllers(): void {
    const { folder, programs } = this;
    const kubeconfig = (user: string) =>
      ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
        .map((flag) => `--${flag}=${folder}/${user}.conf`);
    const quiet = ["--bind-address=127.0.0.1", "--port=0", "--leader-elect=false"];
    this.#start("kube-controller-manager", `${programs}/kube-controller-manager`, [
      ...kubeconfig("manager"),
      ...quiet,
      `--cert-dir=${folder}/manager`,
      `--service-account-private-key-file=${folder}/accounts.key`,
      `--root-ca-file=${folder}/authority.crt`,
      "--use-service-account-credentials=true",
    ]);
    this.#start("kube-scheduler", `${programs}/kube-scheduler`, [
      ...kubeconfig("scheduler"),
      ...quiet,
      `--cert-dir=${folder}/scheduler`,
    ]);
    this.#start("kube-proxy", `${programs}/kube-proxy`, [
      `--kubeconfig=${folder}/proxy.conf`,
      `--hostname-override=${node}`,
      "--proxy-mode=iptables",
      "--healthz-bind-address=127.0.0.1:10256",
      "--conntrack-max-per-core=0",
      "--conntrack-tcp-timeout-established=0",
      "--conntrack-tcp-timeout-close-wait=0",
    ]);
  }

  #startKubelet(): void {
    const { folder } = this;
    const socket = `unix://${this.containerd.folder}/containerd.sock`;
    for (const root of cgroupRoots("cgroup")) Deno.mkdirSync(`${root}/${this.#cgroup}`);
    Deno.writeTextFileSync(
      `${folder}/kubelet.json`,
      JSON.stringify({
        apiVersion: "kubelet.config.k8s.io/v1beta1",
        kind: "KubeletConfiguration",
        authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
        authorization: { mode: "AlwaysAllow" },
        cgroupDriver: "cgroupfs",
        // It ends every pod that it does not know below this group: the group is ours alone.
        cgroupRoot: `/${this.#cgroup}`,
        failSwapOn: false,
        healthzPort: 0,
        clusterDNS: ["10.96.0.10"],
        clusterDomain: "cluster.local",
        resolvConf: "",
        makeIPTablesUtilChains: false,
        evictionHard: {
          "memory.available": "1Mi",
          "nodefs.available": "0.1%",
          "imagefs.available": "0.1%",
        },
        // It would make a folder at a fixed place of the machine.
        featureGates: { DevicePlugins: false },
        syncFrequency: "2s",
        nodeStatusUpdateFrequency: "1s",
        fileCheckFrequency: "1s",
        staticPodPath: this.staticPods,
        volumePluginDir: `${folder}/volume-plugins`,
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
      `--config=${folder}/kubelet.json`,
      `--kubeconfig=${folder}/kubelet.conf`,
      `--root-dir=${folder}/kubelet`,
      `--cert-dir=${folder}/kubelet/pki`,
      "--container-runtime=remote",
      `--container-runtime-endpoint=${socket}`,
      `--containerd=${socket.slice("unix://".length)}`,
      `--hostname-override=${node}`,
      `--node-ip=${nodeAddress}`,
      "--v=2",
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

/** The primary plugin's list, with odd formatting, which nobody may change. */
function conflist(folder: string): string {
  return `{
  "name":"k8s-pod-network",   "cniVersion" : "0.4.0",
  "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": 1400.0,
      "ipam": { "type": "host-local", "dataDir": "${folder}/ipam",
        "ranges": [ [{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd88::/64" }] ],
        "routes": [ { "dst": "0.0.0.0/0" }, { "dst": "::/0" } ] } }
  ]
}
`;
}

const readyCondition = '{.status.conditions[?(@.type=="Ready")].status}';

function succeeded(args: readonly string[], { code, stdout, stderr }: Output): string {
  if (code !== 0) throw new Error(`"kubectl ${args.join(" ")}" failed: ${stderr.trim()}`);
  return stdout;
}

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

function must(command: string, ...args: readonly string[]): void {
  const { success, stderr } = new Deno.Command(command, { args: [...args], stdin: "null" })
    .outputSync();
  if (success) return;
  const reason = new TextDecoder().decode(stderr).trim();
  throw new Error(`"${command} ${args.join(" ")}" failed: ${reason}`);
}
