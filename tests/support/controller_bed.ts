/** A cluster of the API server stand-in, with replicas of the controller that can be cut off. */
import { ok } from "node:assert/strict";
import { Controller } from "../../installer/controller/controller.ts";
import type { ControllerSettings } from "../../installer/settings/controller_declarations.ts";
import { parseControllerSettings } from "../../installer/settings/settings.ts";
import { KubernetesClient } from "../../src/kubernetes/client.ts";
import { Logger, type LogRecord } from "../../src/log/log.ts";
import { ApiServer, type RequestRecord } from "./api_server.ts";
import type { KubernetesObject } from "./pods.ts";
import { Relay } from "./relay.ts";

/** Times of an election that a test can wait for. */
export const quickElection = {
  leaseMilliseconds: 3_000,
  renewMilliseconds: 2_000,
  retryMilliseconds: 300,
} as const;

/** The controller's settings, those of the chart unless told. */
export function settingsWith(changes: Partial<ControllerSettings> = {}): ControllerSettings {
  const app = "KUMA_RUNTIME_KUBERNETES_NODE_TAINT_CONTROLLER_CNI_APP";
  const defaults = parseControllerSettings(({ variable }) =>
    variable === app ? "kuma-cni" : undefined
  );
  return { ...defaults, ...changes };
}

/** Choices of a node. */
export interface NodeChoices {
  readonly tainted?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  readonly ageSeconds?: number;
  readonly taints?: readonly Record<string, unknown>[];
  readonly annotations?: Record<string, string> | null;
  readonly bootId?: string;
}

/** The reference's taint. */
export const referenceTaint = { key: "NodeReadiness", effect: "NoSchedule" } as const;

/** A v1 Node, an hour old unless told. */
export function node(name: string, choices: NodeChoices = {}): KubernetesObject {
  const taints = [...choices.taints ?? [], ...(choices.tainted ? [referenceTaint] : [])];
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name,
      creationTimestamp: secondsAgo(choices.ageSeconds ?? 3600),
      labels: { "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", ...choices.labels },
      ...(choices.annotations === null
        ? {}
        : { annotations: { "node.alpha.kubernetes.io/ttl": "0", ...choices.annotations } }),
    },
    spec: taints.length === 0 ? {} : { taints },
    status: { nodeInfo: { bootID: choices.bootId ?? "boot-1" } },
  };
}

/** The DaemonSet, as the manifests have it. */
export function daemonSet(pod: Record<string, unknown> = {}): KubernetesObject {
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: "kuma-cni-node", namespace: "kube-system", labels: { app: "kuma-cni" } },
    spec: {
      selector: { matchLabels: { app: "kuma-cni" } },
      template: {
        metadata: { labels: { app: "kuma-cni" } },
        spec: {
          containers: [{ name: "install-cni", image: "kuma-cni" }],
          nodeSelector: { "kubernetes.io/os": "linux" },
          tolerations: [{ effect: "NoSchedule", operator: "Exists" }],
          ...pod,
        },
      },
    },
  };
}

/** State of a CNI pod. */
export type PodState =
  | "ready"
  /** Its container has just been started. */
  | "starting"
  /** It was ready, its container runs, and kubelet's probe fails. */
  | "denies"
  /** The node's controller has lost the node. */
  | "lost"
  | "pending";

/** The CNI's pod on a node. */
export function cniPod(
  nodeName: string,
  state: PodState,
  name = `cni-${nodeName}`,
): KubernetesObject {
  const ready = state === "ready";
  const changed = state === "denies" || state === "lost" ? 10 : 30;
  const condition = (type: string, isTrue: boolean) => ({
    type,
    status: isTrue ? "True" : "False",
    lastTransitionTime: secondsAgo(changed),
  });
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "kube-system", labels: { app: "kuma-cni" } },
    spec: { nodeName, containers: [{ name: "install-cni", image: "kuma-cni" }] },
    status: {
      phase: state === "pending" ? "Pending" : "Running",
      conditions: [
        condition("Ready", ready),
        condition("ContainersReady", ready || state === "lost"),
      ],
      containerStatuses: state === "pending" ? [] : [{
        name: "install-cni",
        image: "kuma-cni",
        imageID: "",
        restartCount: 0,
        ready: ready || state === "lost",
        state: { running: { startedAt: secondsAgo(state === "starting" ? 5 : 60) } },
      }],
    },
  };
}

/** What makes NetworkAttachmentDefinitions known. */
export function attachmentDefinition(): KubernetesObject {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "network-attachment-definitions.k8s.cni.cncf.io" },
    spec: {
      group: "k8s.cni.cncf.io",
      scope: "Namespaced",
      names: {
        plural: "network-attachment-definitions",
        singular: "network-attachment-definition",
        kind: "NetworkAttachmentDefinition",
      },
      versions: [{
        name: "v1",
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: "object",
            properties: {
              spec: { type: "object", properties: { config: { type: "string" } } },
            },
          },
        },
      }],
    },
  };
}

/** A v1 Namespace, with that value of Kuma's label. */
export function namespace(
  name: string,
  label?: string,
  more: Record<string, unknown> = {},
): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: {
      name,
      labels: label === undefined ? {} : { "kuma.io/sidecar-injection": label },
      ...more,
    },
  };
}

/** A NetworkAttachmentDefinition, as the reference's controller makes it unless told. */
export function attachment(
  namespace: string,
  more: { labels?: Record<string, string>; config?: string; name?: string } = {},
): KubernetesObject {
  const { labels, config = "", name = "kuma-cni" } = more;
  return {
    apiVersion: "k8s.cni.cncf.io/v1",
    kind: "NetworkAttachmentDefinition",
    metadata: { name, namespace, ...(labels === undefined ? {} : { labels }) },
    spec: { config },
  };
}

function secondsAgo(seconds: number): string {
  return new Date(Date.now() - seconds * 1000).toISOString().replace(/\.\d+/, "");
}

/** An API server, and the token to ask it with. */
export interface ReplicaServer {
  readonly port: number;
  readonly certificateAuthority: string;
  readonly token: string;
}

/** One replica of the controller, behind a relay of its own. */
export class Replica {
  readonly log: LogRecord[] = [];
  readonly controller: Controller;
  readonly #stop = new AbortController();
  readonly #client: KubernetesClient;
  readonly #relay: Relay;
  readonly #running: Promise<void>;

  constructor(
    server: ReplicaServer,
    readonly name: string,
    settings: ControllerSettings,
    times: { leaseMilliseconds?: number; renewMilliseconds?: number; retryMilliseconds?: number },
    requestTimeoutMilliseconds: number,
  ) {
    this.#relay = new Relay(server.port);
    this.#client = new KubernetesClient({
      server: `https://127.0.0.1:${this.#relay.port}`,
      certificateAuthority: server.certificateAuthority,
      token: server.token,
      insecureSkipTlsVerify: false,
    }, { requestTimeoutMilliseconds });
    this.controller = new Controller(settings, {
      client: () => this.#client,
      log: new Logger("install-cni", "debug", (record) => this.log.push(record)),
      election: {
        namespace: "kube-system",
        name: settings.leaseName,
        identity: name,
        ...times,
      },
      signal: this.#stop.signal,
      retries: { firstRetryMilliseconds: 20, longestRetryMilliseconds: 200 },
    });
    this.#running = this.controller.run();
  }

  get isLeading(): boolean {
    return this.controller.readiness.reason.startsWith("leading");
  }

  /** What its log says, in one text. */
  get logText(): string {
    return this.log.map(({ message, fields }) => `${message} ${JSON.stringify(fields)}`).join("\n");
  }

  /** From here on it is cut off from the server, which is not told. */
  cut(): void {
    this.#relay.cut();
  }

  restore(): void {
    this.#relay.restore();
  }

  /** Stops it, as kubelet does with SIGTERM. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#client.close();
    this.#relay[Symbol.dispose]();
  }
}

/** Choices of a bed. */
export interface ControllerBedOptions {
  readonly objects: readonly KubernetesObject[];
  readonly settings?: Partial<ControllerSettings>;
  readonly times?: typeof quickElection | Record<never, never>;
  readonly requestTimeoutMilliseconds?: number;
}

/** A server and replicas; dispose of it to stop all. */
export class ControllerBed implements AsyncDisposable {
  readonly replicas: Replica[] = [];

  private constructor(readonly server: ApiServer, private readonly options: ControllerBedOptions) {}

  static async start(options: ControllerBedOptions): Promise<ControllerBed> {
    const server = await ApiServer.start({ objects: options.objects });
    return new ControllerBed(server, options);
  }

  /** Starts a replica. */
  replica(name: string, settings: Partial<ControllerSettings> = {}): Replica {
    const { times = quickElection, requestTimeoutMilliseconds = 1_500 } = this.options;
    const all = settingsWith({ ...this.options.settings, ...settings });
    const replica = new Replica(this.server, name, all, times, requestTimeoutMilliseconds);
    this.replicas.push(replica);
    return replica;
  }

  /** Starts a replica and waits until it leads and knows all. */
  async leader(name = "a", settings: Partial<ControllerSettings> = {}): Promise<Replica> {
    const replica = this.replica(name, settings);
    await until(() => replica.isLeading && replica.controller.readiness.ready, `${name} leads`);
    return replica;
  }

  /** A client of somebody else; dispose of it. */
  client(): KubernetesClient {
    return new KubernetesClient({
      server: this.server.url,
      certificateAuthority: this.server.certificateAuthority,
      token: this.server.token,
      insecureSkipTlsVerify: false,
    });
  }

  /** Keys and effects of a node's taints. */
  taints(name: string): string[] {
    const { spec } = this.server.store.get("nodes", undefined, name);
    const { taints = [] } = spec as { taints?: { key: string; effect: string }[] };
    return taints.map(({ key, effect }) => `${key}:${effect}`);
  }

  isTainted(name: string): boolean {
    return this.taints(name).includes("NodeReadiness:NoSchedule");
  }

  /** Changes of nodes that were asked for. */
  get nodeWrites(): RequestRecord[] {
    return this.server.requests.filter(({ verb, target }) =>
      verb === "patch" && target.startsWith("/api/v1/nodes/")
    );
  }

  /** Texts of the Events about an object. */
  events(name: string): string[] {
    const { items } = this.server.store.list({
      resource: "events",
      namespace: undefined,
      parameters: new URLSearchParams(),
    });
    const events = items as { involvedObject: { name: string }; reason: string; message: string }[];
    return events.filter(({ involvedObject }) => involvedObject.name === name)
      .map(({ reason, message }) => `${reason}: ${message}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const replica of this.replicas) replica.restore();
    await Promise.all(this.replicas.map((replica) => replica.stop()));
    await this.server.close();
  }
}

/** Waits until something holds. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string,
  milliseconds = 15_000,
): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!await holds()) {
    ok(performance.now() < end, `after ${milliseconds} ms: ${what} expected`);
    await pause(5);
  }
}

/** Waits. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
