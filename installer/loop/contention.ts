/**
 * Tells repairs from a fight. Some network plugins watch their configuration file and undo every
 * change at once; answering each of their writes would spin both programs for ever.
 */

/** What a repair of one file is to do. */
export interface Verdict {
  /** Milliseconds that the repair must wait; 0: repair now. */
  readonly wait: number;
  /** Whether this is a good moment to tell people (once per minute and file). */
  readonly tell: boolean;
}

interface Record {
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
  readonly #records = new Map<string, Record>();

  /** Asks whether a file may be repaired now. */
  ask(file: string, now: number): Verdict {
    const record = this.#records.get(file);
    if (record === undefined) return { wait: 0, tell: false };
    if (now - record.last >= calm) {
      this.#records.delete(file);
      return { wait: 0, tell: false };
    }
    const tell = record.repairs >= suspicious && now - record.told >= 60_000;
    if (tell) record.told = now;
    const wait = Math.max(0, record.last + record.pause - now);
    return { wait, tell };
  }

  /** Notes that a file was repaired. */
  repaired(file: string, now: number): void {
    const record = this.#records.get(file) ??
      { credit, last: now, pause: 0, told: -Infinity, repairs: 0 };
    const rested = (now - record.last) / 1000;
    // A pause of our own is no rest of the other program: credit comes back only before a fight.
    if (record.credit > 0) record.credit = Math.min(credit, record.credit + rested) - 1;
    record.credit = Math.max(0, record.credit);
    if (record.credit === 0) record.pause = Math.min(longestPause, record.pause * 2 || 1000);
    record.repairs = rested > 10 && record.pause === 0 ? 1 : record.repairs + 1;
    record.last = now;
    this.#records.set(file, record);
  }
}

/**
 * Returns the likely cause of a fight, with the remedy.
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
