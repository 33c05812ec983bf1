/** Notices changes of folders, also when a folder is replaced by another one of the same name. */

interface Watched {
  readonly path: string;
  /** Which changed paths are of interest. */
  readonly concerns: (path: string) => boolean;
  identity?: string;
  watcher?: Deno.FsWatcher;
}

/**
 * Watches folders. Events carry no data: they only say that it is time to look. A missed one costs
 * no more than waiting for the next tick.
 */
export class Watch implements Disposable {
  readonly #folders: Watched[] = [];

  /** @param wake Called at each change. */
  constructor(private readonly wake: () => void) {}

  /**
   * Adds a folder, which need not be there yet.
   *
   * @param concerns Tells for a changed path whether it is of interest; by default each is.
   */
  add(path: string, concerns: (path: string) => boolean = () => true): void {
    this.#folders.push({ path, concerns });
  }

  /** Watches folders that are new or were replaced; call it at each tick. */
  refresh(): void {
    for (const folder of this.#folders) {
      const identity = identityOf(folder.path);
      if (identity === folder.identity && (folder.watcher || identity === undefined)) continue;
      closeQuietly(folder.watcher);
      delete folder.watcher;
      if (identity === undefined) delete folder.identity;
      else folder.identity = identity;
      if (identity !== undefined) this.#watch(folder);
    }
  }

  [Symbol.dispose](): void {
    for (const folder of this.#folders.splice(0)) closeQuietly(folder.watcher);
  }

  #watch(folder: Watched): void {
    try {
      folder.watcher = Deno.watchFs(folder.path, { recursive: false });
    } catch {
      // Too many watches on this node, or gone again: the ticks still look.
      return;
    }
    const { watcher } = folder;
    const listen = async () => {
      for await (const event of watcher) {
        if (event.kind === "access") continue;
        const isFolder = event.paths.includes(folder.path);
        // The folder itself was removed or moved away.
        if (isFolder && event.kind === "remove") delete folder.identity;
        if (isFolder || event.flag === "rescan" || event.paths.some(folder.concerns)) this.wake();
      }
    };
    listen().catch(() => {
      if (folder.watcher === watcher) delete folder.watcher;
      this.wake();
    });
  }
}

function identityOf(path: string): string | undefined {
  try {
    const { dev, ino } = Deno.statSync(path);
    return `${dev}-${ino}`;
  } catch {
    return undefined;
  }
}

function closeQuietly(watcher: Deno.FsWatcher | undefined): void {
  try {
    watcher?.close();
  } catch {
    // Closed already.
  }
}
