/** What the tests of a cluster do with it: install, start pods, send requests, look at the host. */
import { equal, ok } from "node:assert/strict";
import { program } from "../../../scripts/e2e/parts.ts";
import { root } from "../../../scripts/build.ts";
import { contentsOf } from "../../support/files.ts";
import { injectedPod, type InjectedPodOptions, type PodObject } from "../../support/pods.ts";
import type { Output } from "../../support/programs.ts";
import { healthPort } from "./agent.ts";
import { Cluster, type ClusterNode, conflistName, type KubernetesVersion } from "./cluster.ts";
import { box, installerReference } from "./images.ts";
import { Sandboxes } from "./sandboxes.ts";
import { sidecarConfigMap } from "./sidecar.ts";
import { workload, type WorkloadOptions } from "./workload.ts";

export const demo = "demo";
/** Folder of the chart. */
export const chart = `${root}/deploy/helm/kuma-cni`;

/** What an application got for a request; `head` has the header lines in small letters. */
export interface Reply {
  readonly status: string;
  readonly head: string;
  readonly body: string;
}

/** A cluster, the chosen values, and how things are said. */
export class Stage implements AsyncDisposable {
  private constructor(readonly cluster: Cluster, private readonly installer: string) {}

  static async set(
    version: KubernetesVersion,
    images: readonly string[],
    installer: string,
  ): Promise<Stage> {
    const stage = new Stage(await Cluster.start(version, images), installer);
    try {
      const metadata = { name: demo };
      await stage.cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata });
      await stage.cluster.until("the namespace has its account", async () => {
        return (await stage.cluster.tryKubectl(["-n", demo, "get", "sa", "default"])).code === 0;
      });
      await stage.cluster.apply(sidecarConfigMap(demo), ...services());
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
    return stage;
  }

  /** Values of an installation on this cluster. */
  values(more: Readonly<Record<string, string>> = {}): string[] {
    const [registry, repositoryAndTag = ""] = installerReference.split("/");
    const values = {
      "cni.chained": "true",
      "cni.netDir": "/etc/cni/net.d",
      "cni.binDir": "/opt/cni/bin",
      "cni.confName": conflistName,
      "cni.image.registry": registry,
      "cni.image.tag": repositoryAndTag.split(":")[1],
      "cni.healthPort": String(healthPort),
      "cni.rbac.watchPods": "true",
      "cni.rbac.getDaemonSets": "true",
      ...more,
    };
    return Object.entries(values).flatMap(([name, value]) => ["--set", `${name}=${value}`]);
  }

  /** What `install-cni manifests` prints. */
  async manifests(more: Readonly<Record<string, string>> = {}): Promise<string> {
    const { code, stdout, stderr } = await new Deno.Command(this.installer, {
      args: ["manifests", ...this.values(more)],
      stdin: "null",
    }).output();
    const decoder = new TextDecoder();
    if (code !== 0) throw new Error(`install-cni manifests failed: ${decoder.decode(stderr)}`);
    return decoder.decode(stdout);
  }

  /** Runs the real Helm of a major version. */
  async helm(major: 3 | 4, ...args: readonly string[]): Promise<string> {
    const { first } = this.cluster;
    const helm = major === 3 ? await program("helm-3", "helm") : await program("kubectl", "helm");
    const command = [helm, `--kubeconfig=${first.folder}/admin.conf`];
    return await first.must(...command, "--namespace=kube-system", ...args);
  }

  /** Text of a node's list with the primary plugin. */
  async conflist({ machine }: ClusterNode): Promise<string> {
    return await Deno.readTextFile(machine.path(`/etc/cni/net.d/${conflistName}`));
  }

  /** Asks the API server for the pod "client" with somebody's token. */
  async askWith(token: string): Promise<Output> {
    const authority = `${this.cluster.first.folder}/authority.crt`;
    const server = ["--server=https://10.95.0.1:6443", `--certificate-authority=${authority}`];
    const nobody = ["--kubeconfig=/dev/null", ...server, `--token=${token}`];
    return await this.cluster.tryKubectl([
      ...nobody,
      "-n",
      demo,
      "get",
      "pod",
      "client",
      "-o=name",
    ]);
  }

  /** Fails when a container of the installation, with its limit of memory, has ever ended. */
  async assertNoneHasDied(): Promise<void> {
    const { items } = await this.cluster.get<{
      items: { status: { containerStatuses: { name: string; restartCount: number }[] } }[];
    }>("/api/v1/namespaces/kube-system/pods?labelSelector=app%3Dkuma-cni");
    const all = items.flatMap(({ status }) => status.containerStatuses);
    ok(all.length > 0, "There must be agents");
    for (const { name, restartCount } of all) equal(restartCount, 0, name);
  }

  /** Waits until a workload has all its pods, ready. */
  async rolledOut(what = "daemonset/kuma-cni-node", seconds = 90): Promise<void> {
    const args = ["-n=kube-system", "rollout", "status", what, `--timeout=${seconds}s`];
    const { code, stdout, stderr } = await this.cluster.tryKubectl(args);
    if (code === 0) return;
    const { stdout: pods } = await this.cluster.tryKubectl(["-n=kube-system", "describe", "pods"]);
    throw new Error(`${stdout}${stderr}\n${pods}`);
  }

  /** Creates an injected pod. */
  async create(options: InjectedPodOptions, more: WorkloadOptions = {}): Promise<void> {
    await this.cluster.apply(workload(injectedPod({ namespace: demo, ...options }), more));
  }

  /** Creates an injected pod and waits until it is ready. */
  async start(options: InjectedPodOptions, more: WorkloadOptions = {}): Promise<PodObject> {
    await this.create(options, more);
    return await this.ready(options.name!, options.namespace);
  }

  /** Creates a pod that the mesh has nothing to do with. */
  async createPlain(name: string): Promise<void> {
    await this.cluster.apply({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: demo },
      spec: {
        automountServiceAccountToken: false,
        terminationGracePeriodSeconds: 1,
        containers: [{ name: "app", image: box, imagePullPolicy: "IfNotPresent" }],
      },
    });
  }

  /** Creates such a pod and waits until it is ready. */
  async startPlain(name: string): Promise<PodObject> {
    await this.createPlain(name);
    return await this.ready(name);
  }

  /** Waits until a pod is ready. A scheduler that lost its API server starts again within a minute. */
  async ready(name: string, namespace: string = demo, seconds = 180): Promise<PodObject> {
    let pod: PodObject | undefined;
    try {
      await this.cluster.until(`pod "${name}" is ready`, async () => {
        const args = ["-n", namespace, "get", "pod", name, "-o=json"];
        const { code, stdout } = await this.cluster.tryKubectl(args);
        if (code !== 0) return false;
        pod = JSON.parse(stdout) as PodObject;
        const { conditions = [] } = pod.status as { conditions?: Condition[] };
        return conditions.some(({ type, status }) => type === "Ready" && status === "True");
      }, seconds * 1000);
    } catch (error) {
      const args = ["-n", namespace, "describe", "pod", name];
      const { stdout } = await this.cluster.tryKubectl(args);
      const logs = ["-n", namespace, "logs", name, "--all-containers", "--tail=20"];
      const { stdout: said } = await this.cluster.tryKubectl(logs);
      throw new Error(`${(error as Error).message}:\n${stdout}\n${said}`);
    }
    return pod!;
  }

  /** Runs a program in a pod's container. */
  async exec(pod: string, command: readonly string[], container = "app"): Promise<Output> {
    const args = ["-n", demo, "exec", pod, "-c", container, "--", ...command];
    return await this.cluster.tryKubectl(args);
  }

  /** Has a pod's application ask an address for `/index.html`. */
  async request(pod: string, address: string, port = 80): Promise<Reply> {
    const host = address.includes(":") ? `[${address}]` : address;
    return replyOf(await this.exec(pod, ["request", `${host}:${port}`]));
  }

  /** The addresses of a Service, IPv4 first. */
  async serviceAddresses(name: string): Promise<readonly string[]> {
    const service = await this.cluster.get<{ spec: { clusterIPs: string[] } }>(
      `/api/v1/namespaces/${demo}/services/${name}`,
    );
    equal(service.spec.clusterIPs.length, 2, "The Service must have addresses of both families");
    return service.spec.clusterIPs;
  }

  /** Tells whether the connections of a pod's application go to its sidecar, which must be light. */
  async isCaptured(name: string, namespace: string = demo): Promise<boolean> {
    const { spec } = await this.ready(name, namespace);
    const node = this.cluster.nodes.find(({ machine }) => machine.name === spec.nodeName)!;
    using sandboxes = new Sandboxes(node.machine);
    return await sandboxes.isCaptured(namespace, name);
  }

  /** Log of the agents, or of one node's, as `kubectl logs` shows it. */
  async agentLog(): Promise<string> {
    return await this.cluster.kubectl("-n=kube-system", "logs", "-l=app=kuma-cni", "--tail=-1");
  }

  /** What kubelet says about sandboxes that it could not make. */
  async failedSandboxes(): Promise<string[]> {
    const { items } = await this.cluster.get<{ items: { reason: string; message: string }[] }>(
      `/api/v1/namespaces/${demo}/events`,
    );
    return items.filter(({ reason }) => reason === "FailedCreatePodSandBox")
      .map(({ message }) => message);
  }

  /** Names, modes and contents of the folders of a node in which we have a say. */
  async hostFiles({ machine }: ClusterNode): Promise<Record<string, string>> {
    const folders = ["/etc/cni", "/opt/cni"].map((path) => machine.path(path));
    const files = await contentsOf(folders);
    // Process numbers are in the paths, and a reboot changes them.
    return Object.fromEntries(
      Object.entries(files).map(([path, what]) => [path.slice(machine.path("").length), what]),
    );
  }

  async removePods(): Promise<void> {
    await this.cluster.kubectl("-n", demo, "delete", "pods,events", "--all");
  }

  async untilInstallerIsGone(): Promise<void> {
    await this.cluster.until("the pods of the installation are gone", async () => {
      const { stdout } = await this.cluster.tryKubectl([
        "-n=kube-system",
        "get",
        "pods",
        "-o=name",
      ]);
      return stdout.trim() === "";
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]();
  }
}

interface Condition {
  readonly type: string;
  readonly status: string;
}

/** A Service of both families for the pods with the label `serves`. */
function services(): object[] {
  return ["web", "shop"].map((name) => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: demo },
    spec: {
      ipFamilyPolicy: "RequireDualStack",
      selector: { serves: name },
      ports: [{ port: 80, targetPort: 8080 }],
    },
  }));
}

/** Reads what a server has answered. */
function replyOf({ stdout, stderr }: Output): Reply {
  const [head = "", ...body] = stdout.split("\r\n\r\n");
  const [status = "", ...lines] = head.split("\r\n");
  return {
    status: status.split(" ")[1] ?? `nothing; ${stderr.trim()}`,
    head: lines.join("\n").toLowerCase(),
    body: body.join("\r\n\r\n").trim(),
  };
}

/** Tells whether the API server does not know who asks. */
export function isRefused({ code, stderr }: Output): boolean {
  return code !== 0 && /Unauthorized|must be logged in/.test(stderr);
}

/** Fails unless a reply came through exactly these sidecars' listeners. */
export function assertCarried(reply: Reply, by: readonly ("outbound" | "inbound")[]): void {
  equal(reply.status, "200", reply.head);
  ok(reply.body.includes("hello"), reply.body);
  for (const direction of ["outbound", "inbound"] as const) {
    const said = reply.head.includes(`x-carried-${direction}: yes`);
    equal(said, by.includes(direction), `${direction}: ${reply.head}`);
  }
  equal(/^server: envoy$/m.test(reply.head), by.length > 0, reply.head);
}
