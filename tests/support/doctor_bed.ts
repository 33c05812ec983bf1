/** A node for the doctor: a host tree of its own, an API server, and install-cni's own passes. */
import { diagnose, type Diagnosis } from "../../installer/doctor/diagnosis.ts";
import { askOthers, lookAtNode } from "../../installer/doctor/look.ts";
import type { NodeSeen } from "../../installer/doctor/seen.ts";
import { Operations } from "../../installer/host/operations.ts";
import { Reconciler } from "../../installer/loop/reconcile.ts";
import { pathsOf } from "../../installer/settings/paths.ts";
import type { Settings } from "../../installer/settings/declarations.ts";
import { ApiServer } from "./api_server.ts";
import { exists } from "./files.ts";
import { InstallerHost, primaryList, quietLog } from "./installer_host.ts";
import type { KubernetesObject } from "./pods.ts";

/** What a node is like. */
export interface DoctorNode {
  readonly netDir?: string;
  readonly binDir?: string;
  /** Further files of the host by their paths. */
  readonly files?: Readonly<Record<string, string>>;
  /** What shows which runtime there is, if anything does. */
  readonly basis?: string;
  /** Symbolic links of the host to folders beside them. */
  readonly links?: Readonly<Record<string, string>>;
  /** Name and text of the primary plugin's file. */
  readonly list?: readonly [name: string, text: string];
  readonly environment?: Readonly<Record<string, string>>;
  readonly objects?: readonly KubernetesObject[];
  /** Keys of the entry's `kubernetes` object. */
  readonly kubernetes?: Readonly<Record<string, unknown>>;
  /** Other keys of the entry. */
  readonly entry?: Readonly<Record<string, unknown>>;
  /** Folder to make the node in; the compiled program may not look below the usual `/dev/shm`. */
  readonly parent?: string;
  /** The token that the API server accepts; random unless told. */
  readonly token?: string;
  /** Network namespace that the API server listens in. */
  readonly networkNamespace?: string;
}

/** Name of the node. */
export const nodeName = "node-x";

/** A node on which install-cni has done its work. */
export class DoctorBed implements AsyncDisposable {
  readonly operations = new Operations();
  /** The token that the account is given when the agent's pod starts anew. */
  nextToken: string | undefined;
  #agent: Deno.UnixListener | undefined;

  private constructor(
    readonly host: InstallerHost,
    readonly api: ApiServer,
    readonly root: string,
    readonly environment: Record<string, string>,
  ) {}

  /** Makes the node and installs. */
  static async make(node: DoctorNode = {}): Promise<DoctorBed> {
    const host = new InstallerHost(node.parent);
    const api = await ApiServer.start({
      objects: node.objects ?? [],
      ...(node.token === undefined ? {} : { token: node.token }),
      ...(node.networkNamespace === undefined ? {} : { networkNamespace: node.networkNamespace }),
    });
    const root = `${host.root}/node`;
    const { netDir = "/etc/cni/net.d", binDir = "/opt/cni/bin" } = node;
    for (const [path, target] of Object.entries(node.links ?? {})) {
      const folder = `${root}${path.slice(0, path.lastIndexOf("/"))}`;
      Deno.mkdirSync(`${folder}/${target}`, { recursive: true });
      Deno.symlinkSync(target, `${root}${path}`);
    }
    for (const folder of [netDir, binDir, "/var/lib/cni/results"]) {
      Deno.mkdirSync(`${root}${folder}`, { recursive: true });
    }
    host.writeSecret("token", api.token);
    host.writeSecret("ca.crt", api.certificateAuthority);
    const bed = new DoctorBed(host, api, root, {
      ...host.environment({
        CNI_NET_DIR: netDir,
        MOUNTED_CNI_NET_DIR: `${root}${netDir}`,
        MOUNTED_CNI_BIN_DIR: `${root}${binDir}`,
        MOUNTED_HOST_ROOT: root,
        KUBERNETES_SERVICE_PORT: `${api.port}`,
        NODE_NAME: nodeName,
        CNI_NETWORK_CONFIG: JSON.stringify({
          type: "kuma-cni",
          kubernetes: {
            kubeconfig: "__KUBECONFIG_FILEPATH__",
            cni_bin_dir: binDir,
            exclude_namespaces: ["kube-system"],
            ...node.kubernetes,
          },
          ...node.entry,
        }),
      }),
      ...node.environment,
    });
    for (const [path, text] of Object.entries(node.files ?? {})) bed.write(path, text);
    const [name, text] = node.list ?? ["10-calico.conflist", primaryList];
    bed.write(`${netDir}/${name}`, text);
    await bed.install();
    bed.#listen();
    return bed;
  }

  /** Path of the agent's socket. */
  get socket(): string {
    return `${pathsOf(this.settings).stateDir}/agent.sock`;
  }

  get settings(): Settings {
    return this.host.settings(this.environment);
  }

  get #reconciler(): Reconciler {
    return new Reconciler(this.settings, this.operations, this.settings.sourceDir, quietLog());
  }

  /** Brings everything in place as far as possible. */
  async install(): Promise<void> {
    await this.#reconciler.pass();
  }

  /**
   * The agent's pod starts anew: with a fresh token, with the folders that are at its paths now, and it
   * installs and listens.
   *
   * @param binDir Path of the bin dir on the host; the present one unless told.
   */
  async startAgent(binDir?: string): Promise<void> {
    this.stopAgent();
    if (this.nextToken !== undefined) this.api.rotateToken(this.nextToken);
    this.host.writeSecret("token", this.api.token);
    this.host.writeSecret("ca.crt", this.api.certificateAuthority);
    const real = (path: string) => Deno.realPathSync(this.path(path));
    const { environment, host } = this;
    const { cni_bin_dir = "/opt/cni/bin" } = JSON.parse(environment.CNI_NETWORK_CONFIG!).kubernetes;
    environment.MOUNTED_CNI_NET_DIR = real(environment.CNI_NET_DIR!);
    environment.MOUNTED_CNI_BIN_DIR = real(binDir ?? cni_bin_dir);
    environment.CNI_SOURCE_DIR = host.sourceDir;
    await this.install();
    if (exists(pathsOf(this.settings).stateDir)) this.#listen();
  }

  #listen(): void {
    if (exists(this.socket)) Deno.removeSync(this.socket);
    this.#agent = Deno.listen({ transport: "unix", path: this.socket });
  }

  /** A real agent takes the place of the one that only listens, and tells of itself over HTTP. */
  async runAgent(): Promise<void> {
    this.stopAgent();
    const port = freePort();
    Object.assign(this.environment, { HEALTH_PORT: `${port}`, HEALTH_ADDRESS: "127.0.0.1" });
    const agent = this.host.start(this.environment);
    let answers = false;
    const ask = async () => {
      while (!answers) {
        await fetch(`http://127.0.0.1:${port}/readyz`).then((response) => response.text())
          .then(() => answers = true, () => new Promise((resolve) => setTimeout(resolve, 20)));
      }
    };
    await Promise.all([ask(), agent.until("it tells of itself", () => answers)]);
  }

  /** install-cni starts, and is killed just before it changes a file of the host. */
  async killInstallationBefore(path: string): Promise<void> {
    const script = new URL("installer_work.ts", import.meta.url).pathname;
    const environment = JSON.stringify(this.environment);
    const { signal } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "-A", script, "install", this.path(path), environment],
      stdin: "null",
      stderr: "null",
    }).output();
    if (signal !== "SIGKILL") throw new Error(`It did not change "${path}"`);
  }

  /** The agent stops. */
  stopAgent(): void {
    this.#agent?.close();
    this.#agent = undefined;
  }

  /** Writes a file of the host. */
  write(path: string, text: string): void {
    const full = `${this.root}${path}`;
    Deno.mkdirSync(full.slice(0, full.lastIndexOf("/")), { recursive: true });
    Deno.writeTextFileSync(full, text);
  }

  /** Path of a file of the host for this process. */
  path(path: string): string {
    return `${this.root}${path}`;
  }

  /** Notes a pod's start in libcni's cache. */
  cache(namespace: string, name: string, captured: boolean): void {
    const plugins = [{ type: "calico" }, ...(captured ? [{ type: "kuma-cni" }] : [])];
    this.write(
      `/var/lib/cni/results/k8s-${name}-eth0`,
      JSON.stringify({
        kind: "cniCacheV1",
        containerId: name,
        config: btoa(JSON.stringify({ name: "k8s", cniVersion: "1.0.0", plugins })),
        cniArgs: [["K8S_POD_NAMESPACE", namespace], ["K8S_POD_NAME", name]],
      }),
    );
  }

  /** The runtime starts a pod through the file that it loads first. */
  startPod(namespace: string, name: string): void {
    const folder = this.path(this.environment.CNI_NET_DIR!);
    const [first] = Array.from(Deno.readDirSync(folder), ({ name }) => name).sort()
      .filter((name) => /\.conf(list)?$/.test(name));
    const { plugins } = JSON.parse(Deno.readTextFileSync(`${folder}/${first}`));
    this.cache(namespace, name, plugins.some(({ type }: { type: string }) => type === "kuma-cni"));
  }

  /** Looks and judges, as the command does. */
  async diagnose(): Promise<Diagnosis> {
    return diagnose(await this.look());
  }

  /** Looks, as the command does. */
  async look(): Promise<NodeSeen> {
    const { seen, plan } = await this.#reconciler.look();
    return lookAtNode(this.operations, this.settings, seen, plan, await askOthers(this.settings));
  }

  /** Codes of all that is not good, without the notes and what cannot be seen. */
  async troubles(): Promise<string[]> {
    const { findings } = await this.diagnose();
    return findings.filter(({ grade }) => grade === "failure" || grade === "warning")
      .map(({ code }) => code!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopAgent();
    await this.api[Symbol.asyncDispose]();
    await this.host[Symbol.asyncDispose]();
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
