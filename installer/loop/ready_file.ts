/** The ready file of the reference manifest's probe: there exactly while everything is installed. */
import { removeIfPresent } from "../host/paths.ts";

/** Keeps the ready file true. */
export class ReadyFile {
  #isThere: boolean | undefined;

  constructor(private readonly path: string) {}

  /**
   * Removes what a crashed process left. Called before anything else, since the folder outlives the
   * container.
   *
   * @throws when the folder is missing or cannot be written: nothing could be told to the probe.
   */
  reset(): void {
    const folder = this.path.slice(0, this.path.lastIndexOf("/")) || "/";
    if (!Deno.statSync(folder).isDirectory) throw new Error(`"${folder}" is not a folder`);
    this.set(false);
  }

  /**
   * Makes the file say whether everything is installed.
   *
   * @throws when it cannot be written or removed; the next call tries again.
   */
  set(ready: boolean): void {
    if (ready) {
      // Also when it should be there: somebody else may have removed it. In a folder like /tmp anybody
      // can put a link or a FIFO there, so only a new file is ever opened.
      if (this.#isThere && isPlainFile(this.path)) return;
      removeIfPresent(this.path);
      using _file = Deno.openSync(this.path, { createNew: true, write: true, mode: 0o644 });
    } else if (this.#isThere !== false) {
      removeIfPresent(this.path);
    }
    this.#isThere = ready;
  }
}

function isPlainFile(path: string): boolean {
  try {
    return Deno.lstatSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
