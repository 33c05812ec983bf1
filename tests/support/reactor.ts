/**
 * A single-threaded event loop for the synchronous sockets of `tests/support/sockets.ts`: tasks are
 * generators that yield what they wait for. It blocks the thread, on purpose: nothing that Deno
 * would do on other threads (in other network namespaces) takes part.
 */
import { poll } from "./sockets.ts";

/** What a task waits for: a file descriptor, at most so long. */
export interface Wait {
  readonly fd: number;
  readonly write?: boolean;
  /** Milliseconds; absent waits for ever. */
  readonly timeoutMs?: number;
}

/** A task; resumed with whether its file descriptor became ready (or else the time ran out). */
export type Task = Generator<Wait, void, boolean>;

interface Waiting {
  readonly task: Task;
  readonly wait: Wait;
  readonly until: number;
}

/** Runs tasks until all have ended or {@linkcode Reactor.stop} is called. */
export class Reactor {
  #waiting: Waiting[] = [];
  #stopped = false;

  /** Starts a task: runs it up to its first wait. */
  start(task: Task): void {
    this.#resume(task, true);
  }

  /** Makes {@linkcode Reactor.run} return. */
  stop(): void {
    this.#stopped = true;
  }

  run(): void {
    while (!this.#stopped && this.#waiting.length > 0) {
      const round = this.#waiting;
      const next = Math.min(...round.map((w) => w.until));
      const timeout = next === Infinity ? -1 : Math.max(0, next - performance.now());
      const ready = poll(round.map((w) => w.wait), timeout);
      const now = performance.now();
      this.#waiting = [];
      round.forEach((w, i) => {
        if (ready[i] || now >= w.until) this.#resume(w.task, ready[i] === true);
        else this.#waiting.push(w);
      });
    }
  }

  #resume(task: Task, ready: boolean): void {
    const { done, value } = task.next(ready);
    if (done) return;
    const until = value.timeoutMs === undefined ? Infinity : performance.now() + value.timeoutMs;
    this.#waiting.push({ task, wait: value, until });
  }
}
