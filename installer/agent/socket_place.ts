/** The place of a socket of this agent: a folder that nobody but root can write to. */

/**
 * Makes sure that nobody else can put anything where a socket is to be.
 *
 * @throws {Error} when its folder is not safe.
 */
export function requireSafeFolder(path: string): void {
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
export function socketIdentity(path: string): string | undefined {
  try {
    const { dev, ino, isSocket } = Deno.lstatSync(path);
    return isSocket ? `${dev}:${ino}` : undefined;
  } catch {
    return undefined;
  }
}
