/** What all controllers of one term work with, and how they follow a collection. */
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import type { Term } from "../../src/kubernetes/lease_election.ts";
import type { ObjectStore } from "../../src/kubernetes/object_store.ts";
import { Reflector } from "../../src/kubernetes/reflector.ts";
import type { WatchOptions, WatchRetries } from "../../src/kubernetes/watch.ts";
import type { Logger } from "../../src/log/log.ts";
import type { Events } from "./events.ts";
import type { LeaderWrites } from "./leader_writes.ts";

/** What a controller works with while this replica leads. */
export interface TermContext {
  /** Gives the client; it stays the caller's. */
  readonly client: () => KubernetesClient;
  readonly term: Term;
  readonly writes: LeaderWrites;
  readonly events: Events;
  readonly log: Pick<Logger, "info" | "warn" | "debug">;
  /** Waits after failed watches; for tests. */
  readonly retries?: WatchRetries;
}

/** How a collection is followed. */
export interface Following<T> {
  readonly watched: Omit<WatchOptions<T>, "signal">;
  readonly store: ObjectStore<T>;
  /** What is not changed while the store may be out of date, for the log. */
  readonly decides: "taint" | "attachment";
  readonly synchronized?: () => void;
  /** Ends it before the term does. */
  readonly signal?: AbortSignal;
}

/** Makes a reflector that says in the log what stops it. */
export function follow<T>(
  { client, term, log, retries }: TermContext,
  { watched, store, decides, synchronized, signal = term.signal }: Following<T>,
): Reflector<T> {
  const collection = watched.path.slice(watched.path.lastIndexOf("/") + 1);
  return new Reflector(client, { ...watched, ...retries, signal }, store, {
    ...(synchronized === undefined ? {} : { synchronized }),
    interrupted: (error, retryMilliseconds) =>
      log.warn(`Following ${collection} was interrupted; no ${decides} is changed meanwhile`, {
        reason: error.message,
        retrySeconds: Math.round(retryMilliseconds / 1000),
      }),
    unreadable: (error) =>
      log.debug("Object cannot be read", { collection, reason: error.message }),
  });
}
