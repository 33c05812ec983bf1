/**
 * The log file of last resort: where the plugin's records go when the node agent does not take them.
 * It stands beside the kubeconfig in a folder that only root can write, never under a world-writable
 * one, and its size is bounded.
 */
import { formatRecord, type LogRecord } from "./log.ts";

/** Name of the project's own folder beside the network configurations. */
export const STATE_FOLDER = "kuma-cni.d";

/** Name of the log file in that folder; the file before it has `.1` appended. */
export const LOG_FILE = "kuma-cni.log";

/** Size from which the file is rotated, in bytes; there are at most two files. */
export const MAX_LOG_BYTES = 1024 * 1024;

/** Longest line, in characters: a pod's annotations alone can have 256 KiB. */
const MAX_LINE_LENGTH = 64 * 1024;

/**
 * Derives the folder of the log file from the paths in the network configuration.
 *
 * @param kubeconfig Path of the kubeconfig, which stands in the folder of the network configurations.
 * @param agentSocket Path of the agent's socket, which stands in the project's own folder.
 * @returns The project's own folder, or `undefined` when neither path is known: then there is no
 * place to trust.
 */
export function stateFolderOf(
  kubeconfig: string | undefined,
  agentSocket: string | undefined,
): string | undefined {
  const beside = parentOf(agentSocket);
  if (beside?.endsWith(`/${STATE_FOLDER}`)) return beside;
  const parent = parentOf(kubeconfig) ?? beside;
  return parent === undefined ? undefined : `${parent}/${STATE_FOLDER}`;
}

/**
 * Appends records to the log file of a folder, which is made when it is missing (mode 0700, the file
 * 0600). Never throws: a log that cannot be written must not stop a pod.
 *
 * @param folder The project's own folder; its parent must exist.
 * @param maxBytes Size from which the file is rotated first.
 * @returns Whether the records were written. Needs read and write permission for the folder.
 */
export function appendToLogFile(
  folder: string,
  records: readonly LogRecord[],
  maxBytes: number = MAX_LOG_BYTES,
): boolean {
  if (records.length === 0) return true;
  try {
    if (!isOwnFolder(folder)) return false;
    const path = `${folder}/${LOG_FILE}`;
    const size = sizeOfLog(path);
    if (size === undefined) return false;
    if (size >= maxBytes) rotate(path, maxBytes);
    using file = Deno.openSync(path, { append: true, create: true, mode: 0o600 });
    let rest = new TextEncoder().encode(records.map(toLine).join(""));
    while (rest.length > 0) rest = rest.subarray(file.writeSync(rest));
    return true;
  } catch {
    return false;
  }
}

/**
 * Tells whether nobody but the owner of the network configurations can place anything in the
 * project's own folder, which is made when it is missing.
 *
 * @throws {Deno.errors} when it cannot be looked at or made.
 */
export function isOwnFolder(folder: string): boolean {
  const parent = Deno.statSync(parentOf(folder) ?? "/");
  if (!parent.isDirectory || ((parent.mode ?? 0) & 0o002) !== 0) return false;
  let found: Deno.FileInfo;
  try {
    found = Deno.lstatSync(folder);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    Deno.mkdirSync(folder, { mode: 0o700 });
    found = Deno.lstatSync(folder);
  }
  return found.isDirectory && found.uid === parent.uid && ((found.mode ?? 0o777) & 0o022) === 0;
}

/** Size of the log, 0 when there is none, `undefined` when something else has its name. */
function sizeOfLog(path: string): number | undefined {
  try {
    const found = Deno.lstatSync(path);
    return found.isFile && found.nlink === 1 ? found.size : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** Another call may have rotated in between: only a file that is still full is moved away. */
function rotate(path: string, maxBytes: number): void {
  if ((sizeOfLog(path) ?? 0) >= maxBytes) Deno.renameSync(path, `${path}.1`);
}

function toLine(record: LogRecord): string {
  const line = formatRecord(record);
  return (line.length > MAX_LINE_LENGTH ? line.slice(0, MAX_LINE_LENGTH) + "…" : line) + "\n";
}

function parentOf(path: string | undefined): string | undefined {
  const slash = path?.lastIndexOf("/") ?? -1;
  return path === undefined || slash < 1 ? undefined : path.slice(0, slash);
}
