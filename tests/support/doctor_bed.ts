/** A node for the doctor: a host tree of its own, an API server, and install-cni's own passes. */
import { diagnose, type Diagnosis } from "../../installer/doctor/diagnosis.ts";
import { lookAtNode } from "../../installer/doctor/look.ts";
import { Operations } from "../../installer/host/operations.ts";
import { Reconciler } from "../../installer/loop/reconcile.ts";
import { pathsOf } from "../../installer/settings/paths.ts";
import type { Settings } from "../../installer/settings/declarations.ts";
import { ApiServer } from "./api_server.ts";
import { InstallerHost, primaryList, quietLog } from "./installer_host.ts";
import type { KubernetesObject } from "./pods.ts";

/** What a node is like. */
export interface DoctorNode {
  readonly netDir?: string;
  readonly binDir?: string;
  /** Further files of the host by their paths. */
  readonly files?: Readonly<Record<string, string>>;
  /** Name and text of the primary plugin's file. */
  readonly list?: readonly [name: string, text: string];
  readonly environment?: Readonly<Record<string, string>>;
  readonly objects?: readonly KubernetesObject[];
  /** Keys of the entry's `kubernetes` object. */
  readonly kubernetes?: Readonly<Record<string, unknown>>;
}

/** Name of the node. */
export const nodeName = "node-x";

/** A node on which install-cni has done its work. */
export class DoctorBed implements AsyncDisposable {
  readonly operations = new Operations();
  #agent: Deno.UnixListener | undefined;

  private constructor(
    readonly host: InstallerHost,
    readonly api: ApiServer,
    readonly root: string,
    readonly environment: Record<string, string>,
  ) {}

  /** Makes the node and installs. */
  static async make(node: DoctorNode = {}): Promise<DoctorBed> {
    const host = new InstallerHost();
    const api = await ApiServer.start({ objects: node.objects ?? [] });
    const root = `${host.root}/node`;
    const { netDir = "/etc/cni/net.d", binDir = "/opt/cni/bin" } = node;
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
        }),
      }),
      ...node.environment,
    });
    for (const [path, text] of Object.entries(node.files ?? {})) bed.write(path, text);
    const [name, text] = node.list ?? ["10-calico.conflist", primaryList];
    bed.write(`${netDir}/${name}`, text);
    await bed.install();
    bed.#agent = Deno.listen({ transport: "unix", path: bed.socket });
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

  /** Looks and judges, as the command does. */
  async diagnose(): Promise<Diagnosis> {
    const { seen, plan } = await this.#reconciler.look();
    return diagnose(await lookAtNode(this.operations, this.settings, seen, plan));
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
