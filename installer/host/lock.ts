/**
 * One install-cni per node at a time: a new one waits until the old one has ended, however it ends,
 * and `install-cni uninstall` asks a running one to do the work.
 */
import { tryLock } from "../../src/linux/file_exchange.ts";
import { discard } from "./host_files.ts";
import type { Operations } from "./operations.ts";
import { makeStateDir } from "./state_folder.ts";

/** Lock file in our own folder. */
export const lockName = "lock";
/** File that asks the running process to uninstall. */
const requestName = "uninstall-requested";

/**
 * Takes the node's lock.
 *
 * @param stateDir Our own folder in the net dir; created when missing.
 * @returns The lock, or `undefined` while another process holds it.
 */
export function takeLock(operations: Operations, stateDir: string): Disposable | undefined {
  makeStateDir(operations, stateDir);
  return tryLock(`${stateDir}/${lockName}`);
}

/** How long a request counts, in milliseconds: whoever made it waits less. */
const requestAge = 60_000;

/** Asks the running process to uninstall. */
export function requestUninstall(operations: Operations, stateDir: string): void {
  const path = `${stateDir}/${requestName}`;
  operations.remove(path);
  using _file = operations.create(path);
}

/** Takes the request back, if it is still there. */
export function withdrawRequest(operations: Operations, stateDir: string): void {
  operations.remove(`${stateDir}/${requestName}`);
}

/**
 * Tells whether the running process was asked to uninstall. A request that nobody waits for any more
 * is put away: an agent that starts weeks later must not obey it.
 */
export function isUninstallRequested(operations: Operations, stateDir: string): boolean {
  const request = operations.status(`${stateDir}/${requestName}`);
  if (request === undefined) return false;
  if (Math.abs(Date.now() - request.modified) <= requestAge) return true;
  // On a read-only file system it stays, and counts no more than before.
  discard(operations, `${stateDir}/${requestName}`);
  return false;
}
