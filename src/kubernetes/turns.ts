/**
 * Lets timers, signals and other work have their turn. A peer that always has bytes ready keeps a
 * loop of `await`s in microtasks for ever: a look-up that was bounded to one second never ended.
 */

/** Longest time without a turn, in milliseconds. */
const longest = 10;

/** Watches the time that one loop takes. */
export class Turns {
  #since = performance.now();

  /** @param signal Ends the loop. */
  constructor(private readonly signal: AbortSignal) {}

  /**
   * To be called in each round of the loop.
   *
   * @returns `undefined`, or what to await when others are to have their turn.
   * @throws The signal's reason, also from the promise.
   */
  next(): Promise<void> | undefined {
    this.signal.throwIfAborted();
    return performance.now() - this.#since < longest ? undefined : this.#pass();
  }

  async #pass(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#since = performance.now();
    this.signal.throwIfAborted();
  }
}
