/**
 * Keeps ordinary pods off nodes where the plugin is not installed: follows nodes, the CNI's pods and
 * its DaemonSet, and has the taint of each node as `decideTaint` says.
 */
import { isConflict, type JsonPatch } from "../../src/kubernetes/changes.ts";
import { ApiError } from "../../src/kubernetes/errors.ts";
import { ObjectStore } from "../../src/kubernetes/object_store.ts";
import type { Reflector } from "../../src/kubernetes/reflector.ts";
import { WorkQueue, type WorkResult } from "../../src/kubernetes/work_queue.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { type CniPod, isSamePodToUs, parseCniPod } from "./cni_pod.ts";
import { canRunOn, type DaemonSet, parseDaemonSet, tolerates } from "./daemon_set.ts";
import { NotLeadingError } from "./leader_writes.ts";
import { isSameToUs, type Node, nodePath, parseNode } from "./node.ts";
import { NodeMemory } from "./node_memory.ts";
import { decideTaint, type Place } from "./taint_decision.ts";
import { addingPatch, isOurs, removingPatch, type TaintName, taintOf } from "./taint_patch.ts";
import { follow, type TermContext } from "./term_context.ts";

/** What the controller is to do. */
export interface TaintOptions {
  /** Label `app` of the DaemonSet's pods. */
  readonly app: string;
  /** Namespace of the DaemonSet. */
  readonly namespace: string;
  readonly taint: TaintName;
  readonly graceMilliseconds: number;
  /** Hears how long a node's taint took to go, from the notice of its ready pod, in milliseconds. */
  readonly removed: (milliseconds: number) => void;
}

/** Writes at the same time; the API server has others to serve. */
const workers = 8;

/** One term's node-taint controller. */
export class TaintController {
  readonly nodes: ObjectStore<Node>;
  readonly #pods: ObjectStore<CniPod>;
  readonly #daemonSets: ObjectStore<DaemonSet>;
  readonly #queue: WorkQueue;
  readonly #reflectors: readonly [Reflector<Node>, Reflector<CniPod>, Reflector<DaemonSet>];
  readonly #memory = new NodeMemory();
  /** When a ready pod was noticed on a node, until its taint is gone. */
  readonly #noticed = new Map<string, number>();
  #toleranceTold = false;

  constructor(private readonly options: TaintOptions, private readonly context: TermContext) {
    const { app, namespace } = options;
    this.#queue = new WorkQueue((name) => this.#look(name), { workers }, this.#failed);
    this.nodes = new ObjectStore<Node>({ keyOf: ({ name }) => name }, (before, after) => {
      const name = (after ?? before)!.name;
      if (after === undefined) {
        this.#memory.forget(name);
        this.#noticed.delete(name);
      } else if (!isSameToUs(before, after)) this.#queue.add(name);
    });
    this.#pods = new ObjectStore<CniPod>(
      { keyOf: ({ key }) => key, groupOf: ({ node }) => node || undefined },
      (before, after) => {
        if (isSamePodToUs(before, after)) return;
        if (after?.ready) this.#noticed.set(after.node, performance.now());
        for (const name of new Set([before?.node, after?.node])) {
          if (name) this.#queue.add(name);
        }
      },
    );
    this.#daemonSets = new ObjectStore<DaemonSet>({ keyOf: ({ key }) => key }, (before, after) => {
      // Status changes with each pod; what a pod may need to run changes hardly ever.
      if (JSON.stringify(before) !== JSON.stringify(after)) this.#lookAtAll();
    });
    const common = { decides: "taint", synchronized: () => this.#synchronized() } as const;
    this.#reflectors = [
      follow(context, {
        ...common,
        store: this.nodes,
        watched: { path: "/api/v1/nodes", parse: parseNode },
      }),
      follow(context, {
        ...common,
        store: this.#pods,
        watched: {
          path: `/api/v1/namespaces/${namespace}/pods`,
          labelSelector: `app=${app}`,
          parse: parseCniPod,
        },
      }),
      follow(context, {
        ...common,
        store: this.#daemonSets,
        watched: {
          path: `/apis/apps/v1/namespaces/${namespace}/daemonsets`,
          parse: parseDaemonSet,
        },
      }),
    ];
  }

  /** Whether everything is known, so that it decides. */
  get live(): boolean {
    return this.#reflectors.every((reflector) => reflector.live);
  }

  /** Number of nodes that have the taint now. */
  get tainted(): number {
    let number = 0;
    for (const node of this.nodes.values()) {
      if (taintOf(node, this.options.taint) !== undefined) number++;
    }
    return number;
  }

  /** Works until the term ends; never rejects. */
  async run(): Promise<void> {
    await Promise.all(this.#reflectors.map((reflector) => reflector.run()));
    await this.#queue.stop();
  }

  /** Looks at one node and does what the table says. */
  async #look(name: string): Promise<WorkResult> {
    // What is out of date decides nothing: when all is known again, all nodes are looked at.
    if (!this.live || !this.context.term.isHeld) return undefined;
    const node = this.nodes.get(name);
    if (node === undefined) return undefined;
    const pods = [...this.#pods.group(name)];
    const readyPod = pods.find((pod) => pod.ready);
    const ready = readyPod !== undefined;
    const decision = decideTaint({
      tainted: taintOf(node, this.options.taint) !== undefined,
      ours: isOurs(node, this.options.taint),
      ready,
      denies: pods.some((pod) => pod.denies),
      place: this.#placeOf(node),
      ...this.#memory.note(node, readyPod?.readySince),
    }, this.options.graceMilliseconds);
    if (decision.action === "none") {
      if (ready) this.#noticed.delete(name);
      const { againMilliseconds } = decision;
      return againMilliseconds === undefined ? undefined : { againMilliseconds };
    }
    if (decision.action === "add") await this.#add(node, pods);
    else await this.#remove(node, ready);
    return undefined;
  }

  #placeOf(node: Node): Place {
    const { app, taint } = this.options;
    const own = [...this.#daemonSets.values()].filter((set) => set.app === app);
    if (own.length === 0) return "no-daemon-set";
    const possible = own.filter((set) => canRunOn(set, node));
    if (possible.length === 0) return "never";
    if (possible.some((set) => tolerates(set, taint))) return "possible";
    if (!this.#toleranceTold) {
      this.#toleranceTold = true;
      this.context.log.warn(
        "No node is tainted: pods of the DaemonSet do not tolerate the taint, add a toleration",
        { daemonSet: possible[0]!.key, taint: this.#taintText },
      );
    }
    return "not-tolerated";
  }

  async #add(node: Node, pods: readonly CniPod[]): Promise<void> {
    if (!await this.#patch(node, addingPatch(node, this.options.taint, new Date()))) return;
    const [pod] = pods;
    const why = pod === undefined
      ? `no pod with the label app=${this.options.app} runs here`
      : `of pod ${pod.key}: ${pod.why}`;
    this.context.log.info("Node is tainted", { node: node.name, why });
    await this.context.events.tell(subjectOf(node), {
      type: "Warning",
      reason: "CniNotReady",
      message: `Pods are kept off this node by the taint ${this.#taintText} until the CNI plugin ` +
        `is ready; ${why}`,
    });
  }

  async #remove(node: Node, ready: boolean): Promise<void> {
    if (!await this.#patch(node, removingPatch(node, this.options.taint))) return;
    const noticed = this.#noticed.get(node.name);
    if (ready && noticed !== undefined) this.options.removed(performance.now() - noticed);
    this.#noticed.delete(node.name);
    const since = node.taintedAt === undefined ? NaN : Date.parse(node.taintedAt);
    // Negative when a clock was set back meanwhile.
    const seconds = Math.max(0, Math.round((Date.now() - since) / 1000));
    const lasted = Number.isNaN(since) ? "" : ` after ${seconds} s`;
    const why = ready ? "the CNI plugin is ready" : "the CNI's DaemonSet does not run here";
    this.context.log.info("Node's taint is removed", { node: node.name, why });
    await this.context.events.tell(subjectOf(node), {
      type: "Normal",
      reason: ready ? "CniReady" : "CniNotExpected",
      message: `Taint ${this.#taintText} is removed${lasted}: ${why}`,
    });
  }

  /** @returns False when the node is gone. */
  async #patch(node: Node, operations: readonly JsonPatch[]): Promise<boolean> {
    const change = { verb: "patch", path: nodePath(node.name), operations } as const;
    let answer: Record<string, unknown>;
    try {
      answer = await this.context.writes.change(change, "nodes", `node "${node.name}"`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false;
      throw error;
    }
    // Known before the watch tells, so that another reason to look meanwhile writes nothing.
    this.nodes.put(parseNode(answer));
    return true;
  }

  #lookAtAll(): void {
    for (const { name } of this.nodes.values()) this.#queue.add(name);
  }

  #synchronized(): void {
    if (!this.live) return;
    const nodes = this.nodes.size;
    this.context.log.info("Nodes, pods and DaemonSet of the CNI are followed", { nodes });
    this.#lookAtAll();
  }

  readonly #failed = (name: string, error: unknown, retryMilliseconds: number): void => {
    if (error instanceof NotLeadingError || this.context.term.signal.aborted) return;
    const fields = { node: name, reason: messageOf(error), retryMilliseconds };
    // Somebody else has changed the node first: ordinary, the next attempt sees how it is.
    if (isConflict(error)) this.context.log.debug("Node has changed meanwhile", fields);
    else this.context.log.warn("Node's taint could not be changed", fields);
  };

  get #taintText(): string {
    return `${this.options.taint.key}:${this.options.taint.effect}`;
  }
}

function subjectOf({ name, uid }: Node) {
  return { apiVersion: "v1", kind: "Node", name, uid } as const;
}
