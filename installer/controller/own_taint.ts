/**
 * Lets the node agent take the taint from its own node, for clusters whose controller may be away:
 * some time after it is ready, since a controller that is there does so within milliseconds.
 */
import { isConflict } from "../../src/kubernetes/changes.ts";
import type { Logger } from "../../src/log/log.ts";
import { messageOf } from "../../src/text/message_of.ts";
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import type { Service, ServiceContext } from "../loop/service.ts";
import { nodePath, parseNode } from "./node.ts";
import { removingPatch, type TaintName, taintOf } from "./taint_patch.ts";

/** What the service works with. */
export interface OwnTaintOptions {
  readonly taint: TaintName;
  readonly client: () => KubernetesClient;
  /** Finds out the name of this node; may fail and is asked again then. */
  readonly nodeName: () => Promise<string>;
  /** Longer than another replica takes to act when a leader is killed; 30 s. */
  readonly waitMilliseconds?: number;
  /** First wait after a failure, doubling; 5 s. */
  readonly firstRetryMilliseconds?: number;
}

/** Longest wait after a failure, in milliseconds. */
const longestRetry = 10 * 60_000;

/** Looks at the own node once each time the plugin has got ready. */
export class OwnTaint implements Service {
  #log: Pick<Logger, "info" | "warn"> | undefined;
  #isReady: () => boolean = () => false;
  #wasReady = false;
  /** When to look, by `performance.now()`. */
  #due = Infinity;
  #failures = 0;
  #working: Promise<void> | undefined;
  readonly #stop = new AbortController();

  constructor(private readonly options: OwnTaintOptions) {}

  start(context: Pick<ServiceContext, "log" | "state">): void {
    this.#log = context.log;
    this.#isReady = () => context.state().ready;
  }

  tick(): void {
    const ready = this.#isReady();
    if (ready && !this.#wasReady) {
      this.#due = performance.now() + (this.options.waitMilliseconds ?? 30_000);
      this.#failures = 0;
    }
    if (!ready) this.#due = Infinity;
    this.#wasReady = ready;
    if (performance.now() < this.#due || this.#working !== undefined) return;
    this.#due = Infinity;
    this.#working = this.#look().finally(() => this.#working = undefined);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#working;
  }

  async #look(): Promise<void> {
    const { signal } = this.#stop;
    const { taint, client, nodeName } = this.options;
    try {
      const name = await nodeName();
      const what = `node "${name}"`;
      const path = nodePath(name);
      const node = parseNode(await client().getJson(path, { what, signal }));
      // Not ready any longer: then the taint is right, and the next time is another one.
      if (taintOf(node, taint) === undefined || !this.#isReady()) return;
      const operations = removingPatch(node, taint);
      await client().change({ verb: "patch", path, operations }, { what, signal });
      this.#log?.info("Taint is taken from this node, which no controller has done", {
        node: name,
        taint: `${taint.key}:${taint.effect}`,
      });
    } catch (error) {
      if (signal.aborted) return;
      const first = this.options.firstRetryMilliseconds ?? 5_000;
      const wait = Math.min(longestRetry, first * 2 ** this.#failures++);
      this.#due = performance.now() + wait * (0.75 + Math.random() / 4);
      // Somebody has changed the node meanwhile, a controller perhaps.
      if (isConflict(error)) return;
      this.#log?.warn("Taint of this node could not be looked at", {
        reason: messageOf(error),
        retrySeconds: Math.round(wait / 1000),
      });
    }
  }
}
