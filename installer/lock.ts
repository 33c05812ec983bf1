/**
 * One install-cni per node at a time: a new one waits until the old one has ended, however it ends,
 * and `install-cni uninstall` asks a running one to do the work.
 */
import { tryLock } from "../src/linux/file_exchange.ts";
import type { Operations } from "./operations.ts";
import { makeStateDir } from "./reconcile.ts";

/** Lock file in our own folder. */
export const lockName = "lock";
/** File that asks the running process to uninstall. */
export const requestName = "uninstall-requested";

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

/** Asks the running process to uninstall. */
export function requestUninstall(operations: Operations, stateDir: string): void {
  const path = `${stateDir}/${requestName}`;
  if (operations.status(path) === undefined) {
    using _file = operations.create(path);
  }
}

/** Tells whether the running process was asked to uninstall. */
export function isUninstallRequested(operations: Operations, stateDir: string): boolean {
  return operations.status(`${stateDir}/${requestName}`) !== undefined;
}
