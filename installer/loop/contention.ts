/**
 * Tells repairs from contention. Some network plugins watch their configuration file and undo every
 * change at once; answering each of their writes would spin both programs for ever.
 */

/** What a repair of one file is to do. */
export interface Backoff {
  /** Milliseconds that the repair must wait; 0: repair now. */
  readonly wait: number;
  /** Whether this is a good moment to tell people (once per minute and file). */
  readonly tell: boolean;
}

interface RepairHistory {
  /** Repairs that may still follow each other at once. */
  credit: number;
  last: number;
  /** Current pause in milliseconds; 0 while there is credit. */
  pause: number;
  told: number;
  repairs: number;
}

/** Repairs in quick succession that are taken for ordinary. */
const credit = 100;
/** From so many on without rest, people are told. */
const suspicious = 20;
const longestPause = 30_000;
const calm = 60_000;

/** Counts repairs per file. Times are in milliseconds of any clock that never goes back. */
export class Contention {
  readonly #histories = new Map<string, RepairHistory>();

  /** Asks whether a file may be repaired now. */
  ask(file: string, now: number): Backoff {
    const history = this.#histories.get(file);
    if (history === undefined) return { wait: 0, tell: false };
    if (now - history.last >= calm) {
      this.#histories.delete(file);
      return { wait: 0, tell: false };
    }
    const tell = history.repairs >= suspicious && now - history.told >= 60_000;
    if (tell) history.told = now;
    const wait = Math.max(0, history.last + history.pause - now);
    return { wait, tell };
  }

  /** Notes that a file was repaired. */
  repaired(file: string, now: number): void {
    const history = this.#histories.get(file) ??
      { credit, last: now, pause: 0, told: -Infinity, repairs: 0 };
    const rested = (now - history.last) / 1000;
    // A pause of our own is no rest of the other program: credit comes back only before contention.
    if (history.credit > 0) history.credit = Math.min(credit, history.credit + rested) - 1;
    history.credit = Math.max(0, history.credit);
    if (history.credit === 0) history.pause = Math.min(longestPause, history.pause * 2 || 1000);
    history.repairs = rested > 10 && history.pause === 0 ? 1 : history.repairs + 1;
    history.last = now;
    this.#histories.set(file, history);
  }
}

/**
 * Returns the likely cause of contention, with the remedy.
 *
 * @param text Byte string of the net dir's configuration files.
 */
export function likelyCause(text: string): string {
  if (text.includes("cilium-cni")) {
    return "Cilium claims the folder for itself: set Cilium's 'cni.exclusive' (ConfigMap key " +
      "'cni-exclusive') to false";
  }
  return "another program restores this file each time; let it leave the entry 'kuma-cni' in place";
}
