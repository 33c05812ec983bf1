/**
 * Elects one of several processes as leader, by a Lease (coordination.k8s.io/v1) in the way of
 * client-go's leader election: who renews it leads, and who has not seen it renewed for its whole
 * duration, by a clock of its own that nobody sets, takes it.
 */
import { isConflict, type JsonPatch } from "./changes.ts";
import type { KubernetesClient } from "./client.ts";
import { ApiError } from "./errors.ts";
import {
  type Lease,
  type LeaseName,
  leasesPath,
  leaseText,
  microTime,
  parseLease,
} from "./lease.ts";
import { sleep } from "./sleep.ts";

/** What is elected for, and how patiently. */
export interface ElectionOptions extends LeaseName {
  /** Name of this process, unlike that of every other one. */
  readonly identity: string;
  /** Ends the election; a leader then gives the Lease back. */
  readonly signal: AbortSignal;
  /** For so long others keep away from a Lease that is not renewed; 15 s. */
  readonly leaseMilliseconds?: number;
  /** After so long without a renewal a leader stops; 10 s. */
  readonly renewMilliseconds?: number;
  /** Between two attempts; 2 s. */
  readonly retryMilliseconds?: number;
}

/** What an election tells its owner. */
export interface ElectionObserver {
  /** Somebody else leads; told when it changes, and again after a failure. */
  following?(leader: string): void;
  leading?(): void;
  /** The Lease was lost or given back. */
  stopped?(reason: string): void;
  failed?(error: Error): void;
}

/** The time in which this process leads. */
export interface Term {
  /** Aborted when the term is over. */
  readonly signal: AbortSignal;
  /**
   * Whether the Lease is held, by the clock: true as well of a process that was stopped for a minute
   * and whose timers have not fired yet. To be asked before each write.
   */
  readonly isHeld: boolean;
}

/** Longest wait for the leader's work to end, before the Lease is given back. */
const longestFarewell = 5_000;

/** Longest time for giving it back: a process that ends has little left. */
const longestRelease = 2_000;

/** Takes part in one election. */
export class LeaseElection {
  readonly #path: string;
  readonly #lease: number;
  readonly #renew: number;
  readonly #retry: number;
  /** The Lease as it was last seen, and when this version was first seen. */
  #seen: { readonly lease: Lease; readonly at: number } | undefined;
  #told = "";

  /** @param client Gives the client to ask with; it stays the caller's. */
  constructor(
    private readonly client: () => KubernetesClient,
    private readonly options: ElectionOptions,
    private readonly observer: ElectionObserver = {},
  ) {
    this.#path = leasesPath(options.namespace);
    this.#lease = options.leaseMilliseconds ?? 15_000;
    this.#renew = options.renewMilliseconds ?? 10_000;
    this.#retry = options.retryMilliseconds ?? 2_000;
  }

  /**
   * Takes part until the options' signal.
   *
   * @param lead Does the leader's work; it must end soon after the term's signal. When it ends or
   * throws before, the Lease is given back and the election goes on.
   */
  async run(lead: (term: Term) => Promise<void>): Promise<void> {
    const { signal } = this.options;
    while (!signal.aborted) {
      const started = performance.now();
      if (await this.#tryToAcquire(signal)) await this.#leadFrom(started, lead);
      // A little chance, so that those who wait do not ask in step.
      await sleep(this.#retry * (1 + Math.random() / 10), signal);
    }
  }

  /** Takes the Lease when it is free; what goes wrong is told and means "not now". */
  async #tryToAcquire(signal: AbortSignal): Promise<boolean> {
    try {
      const lease = await this.#read(signal);
      if (lease === undefined) return await this.#create(signal);
      this.#observe(lease);
      const mine = lease.holder === this.options.identity;
      const since = performance.now() - (this.#seen?.at ?? 0);
      if (!mine && lease.holder !== "" && since <= lease.durationMilliseconds) {
        this.#tell(lease.holder);
        return false;
      }
      await this.#write(lease, this.options.identity, signal);
      return true;
    } catch (error) {
      if (!signal.aborted && !isConflict(error)) {
        this.#told = "";
        this.observer.failed?.(asError(error));
      }
      return false;
    }
  }

  async #leadFrom(acquired: number, lead: (term: Term) => Promise<void>): Promise<void> {
    const term = new HeldTerm(acquired + this.#renew);
    this.#told = "";
    this.observer.leading?.();
    const work = lead(term).catch((error) => this.observer.failed?.(asError(error)));
    let hasEnded = false;
    void work.then(() => {
      hasEnded = true;
      term.end();
    });
    const reason = await this.#keep(term);
    term.end();
    await within(longestFarewell, () => work);
    this.observer.stopped?.(hasEnded ? reason : `${reason}; its work goes on`);
    // Somebody else could begin while our work goes on, or has begun: then it is not ours to give.
    if (hasEnded && reason !== lost && reason !== overdue) await this.#release();
  }

  /** Renews the Lease until the term ends; returns why it did. */
  async #keep(term: HeldTerm): Promise<string> {
    const { signal } = this.options;
    for (;;) {
      const next = AbortSignal.any([signal, term.signal]);
      await sleep(Math.min(this.#retry, term.leftMilliseconds), next);
      if (signal.aborted) return "it was told to stop";
      if (term.signal.aborted) return "its work has ended";
      if (term.leftMilliseconds <= 0) return overdue;
      const started = performance.now();
      const deadline = new AbortController();
      const timer = setTimeout(() => deadline.abort(), term.leftMilliseconds);
      try {
        const limit = AbortSignal.any([next, deadline.signal]);
        if (!await this.#renewOnce(limit)) return lost;
        term.extend(started + this.#renew);
      } catch (error) {
        if (!next.aborted) this.observer.failed?.(asError(error));
      } finally {
        clearTimeout(timer);
      }
    }
  }

  /** @returns False when somebody else has the Lease. */
  async #renewOnce(signal: AbortSignal): Promise<boolean> {
    const known = this.#seen?.lease;
    try {
      if (known === undefined) return false;
      await this.#write(known, this.options.identity, signal);
      return true;
    } catch (error) {
      // An earlier renewal of our own whose answer was lost has changed the version, too.
      if (!isConflict(error)) throw error;
      const lease = await this.#read(signal);
      if (lease?.holder !== this.options.identity) return false;
      this.#observe(lease);
      await this.#write(lease, this.options.identity, signal);
      return true;
    }
  }

  /** Gives the Lease back, so that nobody has to wait for its end. */
  async #release(): Promise<void> {
    const lease = this.#seen?.lease;
    if (lease === undefined) return;
    try {
      await within(longestRelease, (signal) => this.#write(lease, "", signal));
    } catch (error) {
      if (!isConflict(error)) this.observer.failed?.(asError(error));
    }
  }

  async #read(signal: AbortSignal): Promise<Lease | undefined> {
    try {
      const path = `${this.#path}/${this.options.name}`;
      return parseLease(await this.client().getJson(path, { what: this.#what, signal }));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  async #create(signal: AbortSignal): Promise<boolean> {
    const { name, namespace, identity } = this.options;
    const body = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name, namespace },
      spec: this.#spec(identity, undefined),
    };
    const change = { verb: "create", path: this.#path, body } as const;
    this.#observe(parseLease(await this.client().change(change, { what: this.#what, signal })));
    return true;
  }

  /** Writes the Lease if it still is as it was seen. */
  async #write(seen: Lease, holder: string, signal: AbortSignal): Promise<void> {
    const operations: JsonPatch[] = [
      { op: "test", path: "/metadata/resourceVersion", value: seen.version },
      { op: "add", path: "/spec", value: this.#spec(holder, seen) },
    ];
    const path = `${this.#path}/${this.options.name}`;
    const change = { verb: "patch", path, operations } as const;
    this.#observe(parseLease(await this.client().change(change, { what: this.#what, signal })));
  }

  #spec(holder: string, seen: Lease | undefined): Record<string, unknown> {
    const now = microTime(new Date());
    const isNew = seen?.holder !== holder;
    // A Lease that was given back is not to be waited for, as client-go does it.
    const seconds = holder === "" ? 1 : Math.max(1, Math.ceil(this.#lease / 1000));
    return {
      holderIdentity: holder,
      leaseDurationSeconds: seconds,
      acquireTime: isNew ? now : seen?.acquired ?? now,
      renewTime: now,
      leaseTransitions: (seen?.transitions ?? 0) + (isNew && holder !== "" && seen ? 1 : 0),
    };
  }

  #observe(lease: Lease): void {
    if (this.#seen?.lease.version === lease.version) return;
    this.#seen = { lease, at: performance.now() };
  }

  #tell(leader: string): void {
    if (this.#told === leader) return;
    this.#told = leader;
    this.observer.following?.(leader);
  }

  get #what(): string {
    return leaseText(this.options);
  }
}

const lost = "somebody else has the Lease";
const overdue = "the Lease could not be renewed in time";

class HeldTerm implements Term {
  readonly #over = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param until By `performance.now()`. */
  constructor(private until: number) {
    this.extend(until);
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  get isHeld(): boolean {
    return !this.#over.signal.aborted && performance.now() < this.until;
  }

  get leftMilliseconds(): number {
    return Math.max(0, this.until - performance.now());
  }

  extend(until: number): void {
    this.until = until;
    clearTimeout(this.#timer);
    // Writes that are on their way end with the term, not with the next attempt to renew.
    this.#timer = setTimeout(() => this.#over.abort(), this.leftMilliseconds);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#over.abort();
  }
}

/** Waits for work so long at most; the work is told by its signal. */
async function within(
  milliseconds: number,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const over = new AbortController();
  const waited = new AbortController();
  const late = sleep(milliseconds, waited.signal).then(() => over.abort());
  await Promise.race([work(over.signal), late]).finally(() => waited.abort());
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
