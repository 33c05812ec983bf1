/**
 * The life of a socket of this agent: its file lies in a folder that nobody but root can write to, and
 * may be deleted, left behind by a dead process, or taken over by a successor.
 */
import { removeIfPresent } from "../host/paths.ts";

/** How a kind of socket is listened at. */
export interface Listening<Listener> {
  /** Listens at a path where nothing is; when it throws, nothing may be left open. */
  open(path: string): Listener;
  /** Stops. What is at the path then may be another process's socket, and must stay there. */
  close(listener: Listener, path: string, isOurs: boolean): void;
}

/** The place of one socket. */
export class SocketPlace<Listener> {
  #listener: Listener | undefined;
  /** Of the socket's file, since {@linkcode ensureServing} has finished. */
  #identity: string | undefined;

  /** @param path Path of the socket as this process sees it; its folder must belong to root alone. */
  constructor(readonly path: string, private readonly listening: Listening<Listener>) {}

  /** Who listens now. */
  get listener(): Listener | undefined {
    return this.#listener;
  }

  /** Whether the socket is there and it is ours. */
  get isServing(): boolean {
    return this.#listener !== undefined && this.#isOurs;
  }

  get #isOurs(): boolean {
    return this.#identity !== undefined && socketIdentity(this.path) === this.#identity;
  }

  /**
   * Makes the socket unless it is being served already; replaces a stale one. Cheap when nothing is
   * to be done, so that every reconcile may call it.
   *
   * @returns Whether it was made now.
   * @throws {Error} when the folder is not safe to put a socket in, or the socket cannot be made.
   */
  ensureServing(): boolean {
    if (this.isServing) return false;
    this.#closeListener();
    requireSafeFolder(this.path);
    // A listener that died leaves its file behind, and bind(2) would fail with EADDRINUSE.
    removeIfPresent(this.path);
    this.#listener = this.listening.open(this.path);
    Deno.chmodSync(this.path, 0o600);
    this.#identity = socketIdentity(this.path);
    return true;
  }

  /** Stops serving and removes the socket, if it is ours. */
  close(): void {
    const { isServing } = this;
    this.#closeListener();
    if (isServing) removeIfPresent(this.path);
  }

  #closeListener(): void {
    const listener = this.#listener;
    const isOurs = this.#isOurs;
    this.#listener = this.#identity = undefined;
    if (listener !== undefined) this.listening.close(listener, this.path, isOurs);
  }
}

/**
 * Makes sure that nobody else can put anything where a socket is to be.
 *
 * @throws {Error} when its folder is not safe.
 */
function requireSafeFolder(path: string): void {
  const folder = path.slice(0, path.lastIndexOf("/"));
  const info = Deno.lstatSync(folder);
  if (!info.isDirectory || info.uid !== Deno.uid() || ((info.mode ?? 0o777) & 0o077) !== 0) {
    throw new Error(
      `Could not serve the agent's socket: "${folder}" must be a directory with mode 0700 of ` +
        `user ${Deno.uid()}, but its mode is ${((info.mode ?? 0) & 0o7777).toString(8)} ` +
        `and its owner ${info.uid}`,
    );
  }
}

/** Device and inode of the socket at a path, or nothing when there is none. */
function socketIdentity(path: string): string | undefined {
  try {
    const { dev, ino, isSocket } = Deno.lstatSync(path);
    return isSocket ? `${dev}:${ino}` : undefined;
  } catch {
    return undefined;
  }
}
