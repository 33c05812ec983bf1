/**
 * The agent's hand on the ledger: takes what plugin calls report, and lets go of what is over. The
 * folder on the host is the ledger; nothing of it is kept in memory.
 */
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import { parseEntry } from "../../src/ledger/entry.ts";
import {
  type LedgerContent,
  makeRoom,
  namesInLedger,
  readEntries,
  removeEntry,
  removeNamed,
  writeEntry,
} from "../../src/ledger/folder.ts";
import { type LedgerView, overEntries } from "./over.ts";

const fullMilliseconds = 500;

/** The ledger of one node. */
export class Ledger {
  /**
   * How many more entries fit for sure: what was counted last, without those written since. Counting
   * takes a third of a millisecond of each pod's start.
   */
  #room = 0;
  /** The folder was full, and is not counted again before this time: it takes milliseconds then. */
  #full: { readonly error: unknown; readonly until: number } | undefined;

  /** @param stateFolder The project's own folder, as this process sees it. */
  constructor(private readonly stateFolder: string) {}

  /** What is in it now. */
  read(): LedgerContent {
    return readEntries(this.stateFolder);
  }

  /**
   * Takes over what a plugin call reports.
   *
   * @param report As it came over the socket.
   * @throws {TypeError} when it is no report.
   * @throws {Error} when it cannot be written.
   */
  record(report: unknown): void {
    this.put(parseEntry(report));
  }

  /** Writes an entry of this program's own; throws as {@linkcode record}. */
  put(entry: LedgerEntry): void {
    if (this.#room === 0) this.#room = this.#makeRoom();
    this.#room--;
    try {
      writeEntry(this.stateFolder, entry);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      // Somebody has removed the folder.
      this.#room = this.#makeRoom() - 1;
      writeEntry(this.stateFolder, entry);
    }
  }

  #makeRoom(): number {
    if (this.#full !== undefined && performance.now() < this.#full.until) throw this.#full.error;
    this.#full = undefined;
    try {
      return makeRoom(this.stateFolder);
    } catch (error) {
      this.#full = { error, until: performance.now() + fullMilliseconds };
      throw error;
    }
  }

  /** Removes an entry. */
  remove(entry: LedgerEntry): void {
    removeEntry(this.stateFolder, entry);
  }

  /**
   * Removes what is over, and files that hold no entry: of a DEL that never came, of an earlier boot,
   * or of a call that was cut off.
   *
   * @returns How many files are gone.
   */
  clean(view: LedgerView): number {
    const { entries, unreadable } = this.read();
    const over = overEntries(entries, view);
    for (const entry of over) this.remove(entry);
    const begun = namesInLedger(this.stateFolder).filter((name) => name.startsWith("."));
    for (const name of [...unreadable, ...begun]) removeNamed(this.stateFolder, name);
    return over.length + unreadable.length + begun.length;
  }
}
