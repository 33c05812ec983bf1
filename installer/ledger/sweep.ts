/**
 * The slow look at the rules of all running pods: one pod at a time, spread over the interval, and
 * never more than a thousandth of the time.
 */
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { Logger } from "../../src/log/log.ts";
import type { Ledger } from "./ledger.ts";
import type { Look } from "./look.ts";
import { driftText } from "./drift_text.ts";
import type { PodEvent } from "./pod_events.ts";

/** Of all time, that looks may take one part in so many: a thousandth, with those that are slow. */
const share = 1000 / 0.9;
const slowShare = 1000 / 0.1;
/** Milliseconds of a look that is slow, as when a pod's namespace is filled to the brim. */
const slow = 250;
/** A sandbox whose namespace was seen gone: its DEL may still be on its way. */
const patience = 10 * 60_000;
/** While nothing can be seen, that is tried again only now and then. */
const blindPause = 10 * 60_000;

/** What a sweep needs. */
export interface SweepParts {
  readonly ledger: Ledger;
  readonly log: Pick<Logger, "info" | "warn">;
  /** Looks at one sandbox; nothing while what that takes is being loaded. */
  look(entry: LedgerEntry): Look | undefined;
  /** Counts. */
  checked(result: Look["kind"]): void;
  /** Tells people about a pod. */
  tell(entry: LedgerEntry, event: PodEvent): void;
  /** Milliseconds since 1970. */
  now(): number;
  /** Milliseconds of a clock that is never set back. */
  clock(): number;
}

/** Compares running pods with the ledger, time after time. */
export class Sweep {
  #round: LedgerEntry[] = [];
  #next: number | undefined;
  #lookedAt = 0;
  /** What is wrong now, by sandbox, in the words that people were told. */
  readonly #drifted = new Map<string, string>();
  #blindness: string | undefined;
  /** Pods whose last look was slow: they wait for each other, and nobody waits for them. */
  readonly #slow = new Set<string>();
  #nextSlow = 0;
  /** What cannot be compared and why, as it was told. */
  readonly #hidden = new Map<string, string>();
  /** Some pod of this round could be looked at, so what cannot is the pod's own matter. */
  #sees = false;

  /** @param intervalSeconds In which each pod is looked at once. */
  constructor(private readonly intervalSeconds: number, private readonly parts: SweepParts) {}

  /** Number of pods whose rules differ from the ledger, as far as it was looked. */
  get drifted(): number {
    return this.#drifted.size;
  }

  /** Why nothing can be compared; `undefined` when it can, or was not tried. */
  get blindness(): string | undefined {
    return this.#blindness;
  }

  /** Looks at the next pod when it is time; call it often, it does nothing most times. */
  tick(): void {
    const { parts } = this;
    const started = parts.clock();
    // Nodes that start together do not look together.
    this.#next ??= started + Math.random() * Math.min(60_000, this.intervalSeconds * 1000);
    if (started < this.#next) return;
    if (this.#round.length === 0) this.#begin();
    while (this.#round[0] !== undefined && this.#waits(this.#round[0], started)) {
      this.#round.shift();
    }
    const [entry] = this.#round;
    const before = parts.clock();
    const look = entry && parts.look(entry);
    const spent = parts.clock() - before;
    if (entry !== undefined && look === undefined) return;
    this.#round.shift();
    if (look !== undefined) this.#handle(entry!, look);
    const isBlind = look?.kind === "unseen" && !this.#sees;
    // From when it was due, not from now: the ticks are seconds apart, which would add up.
    this.#next = Math.max(
      this.#next + this.intervalSeconds * 1000 / Math.max(1, this.#lookedAt),
      started + (before - started) * share + this.#pauseAfter(entry, spent),
      started + (isBlind ? blindPause : 0),
    );
  }

  /** A slow pod comes with a later round while another has used up the time of all slow ones. */
  #waits({ sandbox }: LedgerEntry, now: number): boolean {
    return this.#slow.has(sandbox) && now < this.#nextSlow;
  }

  /** A slow pod must not keep the others from being looked at, nor may slow ones take more of the time. */
  #pauseAfter(entry: LedgerEntry | undefined, spent: number): number {
    if (entry === undefined) return 0;
    const now = this.parts.clock();
    if (spent <= slow) this.#slow.delete(entry.sandbox);
    else {
      this.#slow.add(entry.sandbox);
      if (now >= this.#nextSlow) {
        this.#nextSlow = now + spent * slowShare;
        return 0;
      }
    }
    return spent * share;
  }

  #begin(): void {
    const { entries } = this.parts.ledger.read();
    const now = this.parts.clock();
    const redirected = entries.filter(({ outcome }) => outcome.result === "redirected");
    this.#round = redirected.filter((entry) => !this.#waits(entry, now));
    this.#lookedAt = this.#round.length;
    this.#sees = false;
    const sandboxes = new Set(redirected.map(({ sandbox }) => sandbox));
    for (const known of [this.#drifted, this.#hidden, this.#slow]) {
      for (const sandbox of known.keys()) if (!sandboxes.has(sandbox)) known.delete(sandbox);
    }
  }

  #handle(entry: LedgerEntry, look: Look): void {
    const { parts } = this;
    parts.checked(look.kind);
    const { sandbox } = entry;
    if (look.kind !== "unseen") this.#hidden.delete(sandbox);
    switch (look.kind) {
      case "equal":
        this.#seen();
        if (this.#drifted.delete(sandbox)) {
          parts.log.info("Rules are as they should be again", podFields(entry));
        }
        break;
      case "gone":
        this.#drifted.delete(sandbox);
        if (parts.now() - entry.time > patience) parts.ledger.remove(entry);
        break;
      case "repaired":
        this.#seen();
        this.#drifted.delete(sandbox);
        this.#tell(entry, "RulesRepaired", `Rules were put back: ${driftText(look.differences)}`);
        break;
      case "drifted": {
        this.#seen();
        const text = driftText(look.differences) +
          (look.notRepaired === undefined ? "" : `; not put back: ${look.notRepaired}`);
        if (this.#drifted.get(sandbox) === text) break;
        this.#drifted.set(sandbox, text);
        this.#tell(entry, "RulesDrifted", `Rules are not those that were installed: ${text}`);
        break;
      }
      case "unseen":
        this.#unseen(entry, look.reason);
        break;
    }
  }

  #tell(entry: LedgerEntry, reason: string, message: string): void {
    this.parts.log.warn(message, podFields(entry));
    this.parts.tell(entry, { type: "Warning", reason, message });
  }

  #seen(): void {
    this.#sees = true;
    if (this.#blindness !== undefined) {
      this.parts.log.info("Rules of running pods can be compared again");
    }
    this.#blindness = undefined;
  }

  /**
   * Said once: without the capabilities it is what the administrator has chosen. Where others can be
   * compared, it is this pod's matter, which may hide something.
   */
  #unseen(entry: LedgerEntry, reason: string): void {
    if (this.#sees) {
      if (this.#hidden.get(entry.sandbox) === reason) return;
      this.#hidden.set(entry.sandbox, reason);
      this.parts.log.warn("Rules of a pod cannot be compared", { ...podFields(entry), reason });
      return;
    }
    if (this.#blindness === undefined) {
      this.parts.log.info("Rules of running pods are not compared", { reason });
    }
    this.#blindness = reason;
  }
}

function podFields({ podNamespace, podName, sandbox }: LedgerEntry): Record<string, string> {
  return { namespace: podNamespace, pod: podName, sandbox };
}
