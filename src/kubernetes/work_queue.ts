/**
 * Names of objects that must be looked at: each stands in the queue once, is worked on by one worker
 * at a time, and comes back later and later while the work fails.
 */

/** Bounds of a queue. */
export interface WorkQueueOptions {
  /** Keys that are worked on at the same time; 4. */
  readonly workers?: number;
  /** First wait after a failure, doubling; 100 ms. */
  readonly firstRetryMilliseconds?: number;
  /** Longest wait after a failure; 60 s. */
  readonly longestRetryMilliseconds?: number;
}

/** What the work on a key asks for: to be done again after that many milliseconds, or nothing. */
export type WorkResult = { readonly againMilliseconds: number } | undefined;

/** A queue of keys; runs from its making until {@linkcode WorkQueue.stop}. */
export class WorkQueue {
  /** Keys that wait for a worker, in order. */
  readonly #waiting = new Set<string>();
  readonly #working = new Set<string>();
  /** Keys that were added while they were worked on. */
  readonly #dirty = new Set<string>();
  readonly #timers = new Map<
    string,
    { readonly at: number; readonly timer: ReturnType<typeof setTimeout> }
  >();
  readonly #failures = new Map<string, number>();
  readonly #idle = new Set<() => void>();
  #stopped = false;

  /**
   * @param work Looks at one key; what it throws is a failure.
   * @param failed Hears of each failure, and when the key comes back.
   */
  constructor(
    private readonly work: (key: string) => Promise<WorkResult>,
    private readonly options: WorkQueueOptions = {},
    private readonly failed: (key: string, error: unknown, retryMilliseconds: number) => void =
      () => {},
  ) {}

  /** Adds a key, unless it waits already. */
  add(key: string): void {
    if (this.#stopped) return;
    if (this.#working.has(key)) this.#dirty.add(key);
    else this.#waiting.add(key);
    this.#start();
  }

  /** Adds a key after a while; of several whiles the shortest counts. */
  addAfter(key: string, milliseconds: number): void {
    if (this.#stopped) return;
    const at = performance.now() + milliseconds;
    const known = this.#timers.get(key);
    if (known !== undefined && known.at <= at) return;
    if (known !== undefined) clearTimeout(known.timer);
    // Not above what a timer can hold (2^31 ms): the key is only looked at and comes back then.
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      this.add(key);
    }, Math.min(milliseconds, 2 ** 31 - 1));
    this.#timers.set(key, { at, timer });
  }

  /** Forgets all keys; the work that runs is kept, and waited for. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const { timer } of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#waiting.clear();
    this.#dirty.clear();
    if (this.#working.size > 0) {
      await new Promise<void>((resolve) => this.#idle.add(resolve));
    }
  }

  #start(): void {
    const workers = this.options.workers ?? 4;
    for (const key of this.#waiting) {
      if (this.#working.size >= workers) return;
      this.#waiting.delete(key);
      this.#working.add(key);
      void this.#do(key);
    }
  }

  async #do(key: string): Promise<void> {
    try {
      const result = await this.work(key);
      this.#failures.delete(key);
      if (result !== undefined) this.addAfter(key, result.againMilliseconds);
    } catch (error) {
      if (!this.#stopped) {
        const wait = this.#waitAfterFailure(key);
        this.failed(key, error, wait);
        this.addAfter(key, wait);
      }
    }
    this.#working.delete(key);
    if (this.#dirty.delete(key)) this.#waiting.add(key);
    if (!this.#stopped) this.#start();
    if (this.#working.size === 0) {
      for (const resolve of this.#idle) resolve();
    }
  }

  #waitAfterFailure(key: string): number {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    const first = this.options.firstRetryMilliseconds ?? 100;
    const wait = Math.min(
      first * 2 ** Math.min(failures, 20),
      this.options.longestRetryMilliseconds ?? 60_000,
    );
    return wait * (0.5 + Math.random() / 2);
  }
}
