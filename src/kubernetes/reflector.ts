/** Keeps a store as the API has a collection, whatever interrupts the way there. */
import type { KubernetesClient } from "./client.ts";
import { ApiError } from "./errors.ts";
import type { ObjectStore } from "./object_store.ts";
import { sleep } from "./sleep.ts";
import { watch, type WatchOptions } from "./watch.ts";

/** What a reflector tells its owner. */
export interface ReflectorObserver {
  /** The store is as the API has the collection; told once after each interruption. */
  synchronized?(): void;
  /** The store may be out of date. */
  interrupted?(error: Error, retryMilliseconds: number): void;
  /** One object could not be parsed and is left out. */
  unreadable?(error: Error): void;
}

/** First wait after a failure that needs another client, in milliseconds. */
const firstRestart = 500;
const longestRestart = 30_000;

/** Follows one collection. */
export class Reflector<T> {
  #live = false;
  #restarts = 0;

  /**
   * @param client Gives the client to ask with, asked again after a failure of TLS: the cluster's
   * authority may have been replaced. It stays the caller's.
   */
  constructor(
    private readonly client: () => KubernetesClient,
    private readonly options: WatchOptions<T>,
    private readonly store: ObjectStore<T>,
    private readonly observer: ReflectorObserver = {},
  ) {}

  /** Whether the watch runs, so that what the store does not have does not exist. */
  get live(): boolean {
    return this.#live;
  }

  /** Follows the collection until the options' signal ends it; never rejects. */
  async run(): Promise<void> {
    const { signal } = this.options;
    while (!signal.aborted) {
      try {
        await this.#follow();
      } catch (error) {
        if (signal.aborted) return;
        const wait = Math.min(longestRestart, firstRestart * 2 ** Math.min(this.#restarts++, 10));
        const milliseconds = wait * (0.5 + Math.random() / 2);
        this.#interrupted(error instanceof Error ? error : new Error(String(error)), milliseconds);
        await sleep(milliseconds, signal);
      }
    }
  }

  async #follow(): Promise<void> {
    const { store } = this;
    const ended = new AbortController();
    const end = () => ended.abort();
    this.options.signal.addEventListener("abort", end, { once: true });
    try {
      const notices = watch(this.client(), { ...this.options, signal: ended.signal });
      for await (const notice of notices) {
        switch (notice.type) {
          case "snapshot":
            store.replace(notice.objects);
            this.#reached();
            break;
          case "put":
            store.put(notice.object);
            break;
          case "deleted":
            store.delete(notice.object);
            break;
          case "resumed":
            this.#reached();
            break;
          case "unreadable":
            this.observer.unreadable?.(notice.error);
            break;
          case "interrupted":
            if (notice.error instanceof ApiError && notice.error.kind === "tls") throw notice.error;
            this.#interrupted(notice.error, notice.retryMilliseconds);
            break;
        }
      }
    } finally {
      this.options.signal.removeEventListener("abort", end);
      ended.abort();
    }
  }

  #reached(): void {
    this.#restarts = 0;
    if (this.#live) return;
    this.#live = true;
    this.observer.synchronized?.();
  }

  #interrupted(error: Error, retryMilliseconds: number): void {
    this.#live = false;
    this.observer.interrupted?.(error, retryMilliseconds);
  }
}
