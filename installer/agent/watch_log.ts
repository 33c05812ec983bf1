/** Tells people how the watch on this node's pods goes: trouble once, then once a minute at most. */
import type { Logger } from "../../src/log/log.ts";
import type { PodCacheObserver } from "./pod_cache.ts";

/** Shortest time between two lines about failures, in milliseconds. */
const PAUSE = 60_000;

/** An observer of the pod cache that writes to the agent's log. */
export class WatchLog implements PodCacheObserver {
  #ranBefore = false;
  /** When the watch was first interrupted since it last ran. */
  #interruptedAt: number | undefined;
  #toldAt = -Infinity;
  /** Failures since the last line about one. */
  #untold = 0;
  /** A line has told of the present interruption, so one must tell of its end. */
  #told = false;

  /** @param now A clock in milliseconds that is never set back. */
  constructor(
    private readonly log: Pick<Logger, "info" | "warn">,
    private readonly now: () => number = () => performance.now(),
  ) {}

  synchronized(pods: number): void {
    const seconds = Math.round((this.now() - (this.#interruptedAt ?? this.now())) / 1000);
    if (!this.#ranBefore) this.log.info("Pods of this node are followed", { pods });
    else if (this.#told) {
      this.log.info(`Following the pods of this node again after ${seconds} s`, { pods });
    }
    this.#ranBefore = true;
    this.#interruptedAt = undefined;
    this.#told = false;
  }

  interrupted(error: Error, retryMilliseconds: number): void {
    const now = this.now();
    this.#interruptedAt ??= now;
    // A connection that comes and goes is not told of each time, either.
    if (now - this.#toldAt < PAUSE) {
      this.#untold++;
      return;
    }
    this.log.warn("Pods of this node are not followed, the plugin's questions are asked live", {
      reason: error.message,
      retrySeconds: Math.round(retryMilliseconds / 1000),
      ...(this.#untold === 0 ? {} : { failuresBetween: this.#untold }),
    });
    this.#toldAt = now;
    this.#told = true;
    this.#untold = 0;
  }
}
