/** Takes part in the election, and runs the controllers while it leads. */
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import {
  type ElectionOptions,
  LeaseElection,
  type Term,
} from "../../src/kubernetes/lease_election.ts";
import { sleep } from "../../src/kubernetes/sleep.ts";
import type { WatchRetries } from "../../src/kubernetes/watch.ts";
import type { Logger } from "../../src/log/log.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { MetricsRegistry } from "../agent/metrics.ts";
import type { ControllerSettings } from "../settings/controller_declarations.ts";
import { AttachmentController } from "./attachment_controller.ts";
import { ControllerMetrics } from "./controller_metrics.ts";
import { Events } from "./events.ts";
import { LeaderWrites } from "./leader_writes.ts";
import { removeTaints } from "./remove_taints.ts";
import { TaintController } from "./taint_controller.ts";
import type { TaintName } from "./taint_patch.ts";
import type { TermContext } from "./term_context.ts";

/** What a controller needs to run. */
export interface ControllerContext {
  /** Gives the client; it stays the caller's. */
  readonly client: () => KubernetesClient;
  readonly log: Logger;
  /** The Lease and who asks for it; times have their defaults. */
  readonly election: Omit<ElectionOptions, "signal">;
  readonly signal: AbortSignal;
  /** Waits after failed watches; for tests. */
  readonly retries?: WatchRetries;
}

/** First and longest wait before taints are taken away again, when that has failed. */
const firstRetry = 1_000;
const longestRetry = 60_000;

/** Shortest time between two warnings about the Lease, in milliseconds. */
const troublePause = 60_000;

/** One replica. */
export class Controller {
  readonly metrics: ControllerMetrics;
  #taints: TaintController | undefined;
  #attachments: AttachmentController | undefined;
  #leader = "";
  #isLeading = false;
  /** Why it cannot tell who leads, nor take over. */
  #leaseTrouble: string | undefined = "the Lease was not seen yet";
  #leaseTroubleTold = -Infinity;

  constructor(
    private readonly settings: ControllerSettings,
    private readonly context: ControllerContext,
  ) {
    this.metrics = new ControllerMetrics(new MetricsRegistry(), () => this.#taints?.tainted);
  }

  /** Whether it does, or could at once do, its work. */
  get readiness(): { readonly ready: boolean; readonly reason: string } {
    if (!this.#isLeading) {
      return this.#leaseTrouble === undefined
        ? { ready: true, reason: `waiting: ${this.#leader} leads` }
        : { ready: false, reason: `not leading: ${this.#leaseTrouble}` };
    }
    if (this.#taints !== undefined && !this.#taints.live) {
      return { ready: false, reason: "leading, but nodes and pods are not followed yet" };
    }
    if (this.#attachments !== undefined && !this.#attachments.live) {
      return {
        ready: false,
        reason: "leading, but CustomResourceDefinitions are not followed yet",
      };
    }
    return { ready: true, reason: "leading" };
  }

  /** Works until the signal. */
  async run(): Promise<void> {
    const { client, election, log, signal } = this.context;
    const elected = new LeaseElection(client, { ...election, signal }, {
      following: (leader) => {
        this.#leader = leader;
        this.#leaseTrouble = undefined;
        log.info("Another replica leads", { leader });
      },
      leading: () => {
        this.#isLeading = true;
        this.metrics.leading.set(1);
        log.info("This replica leads", { identity: election.identity });
      },
      stopped: (reason) => {
        this.#isLeading = false;
        this.#leaseTrouble = reason;
        this.metrics.leading.set(0);
        log.info("This replica does not lead any longer", { reason });
      },
      failed: (error) => this.#tellOfLease(error),
    });
    await elected.run((term) => this.#lead(term));
  }

  /** The next attempt is soon: while the API server is away a line for each would bury all others. */
  #tellOfLease(error: Error): void {
    const { log } = this.context;
    const now = performance.now();
    this.#leaseTrouble = error.message;
    if (now - this.#leaseTroubleTold < troublePause) {
      log.debug("Lease could not be had", { reason: error.message });
      return;
    }
    log.warn("Lease could not be had", { reason: error.message });
    this.#leaseTroubleTold = now;
  }

  async #lead(term: Term): Promise<void> {
    const { client, log, retries } = this.context;
    const { attachmentsEnabled, taintEnabled, cniApp, cniNamespace, taintGrace } = this.settings;
    const writes = new LeaderWrites(
      client,
      term,
      (verb, kind) => this.metrics.changes.increment({ kind, verb }),
    );
    const context: TermContext = {
      client,
      term,
      writes,
      log,
      events: new Events(writes, log),
      ...(retries === undefined ? {} : { retries }),
    };
    this.#attachments = attachmentsEnabled ? new AttachmentController(context) : undefined;
    this.#taints = taintEnabled
      ? new TaintController({
        app: cniApp,
        namespace: cniNamespace,
        taint: this.#taint,
        graceMilliseconds: taintGrace * 1000,
        removed: (milliseconds) => this.metrics.removalSeconds.observe(milliseconds / 1000),
      }, context)
      : undefined;
    try {
      await Promise.all([
        this.#taints?.run() ?? this.#takeTaintsAway(term, writes),
        this.#attachments?.run(),
      ]);
    } finally {
      this.#taints = undefined;
      this.#attachments = undefined;
    }
  }

  /** What an earlier time, when it was switched on, has left. */
  async #takeTaintsAway(term: Term, writes: LeaderWrites): Promise<void> {
    const { client, log } = this.context;
    for (let wait = firstRetry; !term.signal.aborted; wait = Math.min(longestRetry, wait * 2)) {
      try {
        const nodes = await removeTaints(client(), {
          taint: this.#taint,
          which: "ours",
          signal: term.signal,
          change: (change, what) => writes.change(change, "nodes", what),
        });
        log.info("Nodes get no taint: that is switched off", { taintsRemoved: nodes.length });
        break;
      } catch (error) {
        if (term.signal.aborted) return;
        log.warn("Taints could not be taken away", { reason: messageOf(error) });
        await sleep(wait, term.signal);
      }
    }
    await new Promise<void>((resolve) => {
      if (term.signal.aborted) resolve();
      term.signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  get #taint(): TaintName {
    return { key: this.settings.taintKey, effect: this.settings.taintEffect };
  }
}
