/**
 * The ledger's folder: one file for each attachment, in the project's own folder on the host, which
 * only root can write. Whoever installs or removes something writes here at once; nobody keeps a
 * copy, so that the plugin, the agent and a command on the node see the same.
 */
import { formatEntry, type LedgerEntry, MAX_ENTRY_BYTES, parseEntry } from "./entry.ts";

/** Name of the folder in the project's own one. */
export const LEDGER_FOLDER = "ledger";

/** Most files that are kept and read: many times what a node has of pods. */
export const MAX_ENTRIES = 4096;

/** What was found in the folder. */
export interface LedgerContent {
  readonly entries: readonly LedgerEntry[];
  /** Files that hold no entry of a known form, by name. */
  readonly unreadable: readonly string[];
}

/** Name of an attachment's file. "@" cannot be part of a container's ID, so no two share one. */
export function entryName({ sandbox, interfaceName }: AttachmentName): string {
  return `${sandbox}@${interfaceName}`;
}

/** One attachment of one sandbox. */
export interface AttachmentName {
  readonly sandbox: string;
  readonly interfaceName: string;
}

/**
 * Writes an entry in place of an earlier one of the same attachment: whole or not at all. Not forced
 * to the disk, since no entry outlives a boot.
 *
 * @param stateFolder The project's own folder; must exist and belong to root alone.
 * @throws {Error} when the folder is full, or is not a folder.
 * @throws {Deno.errors} when the file cannot be written.
 */
export function putEntry(stateFolder: string, entry: LedgerEntry): void {
  makeRoom(stateFolder);
  writeEntry(stateFolder, entry);
}

/**
 * Makes the folder unless it is there, and looks whether another entry fits.
 *
 * @returns How many more do.
 * @throws as {@linkcode putEntry}.
 */
export function makeRoom(stateFolder: string): number {
  const folder = `${stateFolder}/${LEDGER_FOLDER}`;
  makeFolder(folder);
  const room = MAX_ENTRIES - namesIn(folder).length;
  if (room > 0) return room;
  throw new Error(`"${folder}" has ${MAX_ENTRIES} entries already, expected one for each pod`);
}

/**
 * Writes an entry as {@linkcode putEntry} does, for whoever knows that there is room.
 *
 * @throws {Deno.errors.NotFound} when the folder is gone, and other file errors.
 */
export function writeEntry(stateFolder: string, entry: LedgerEntry): void {
  const folder = `${stateFolder}/${LEDGER_FOLDER}`;
  const path = `${folder}/${entryName(entry)}`;
  // Two calls for one attachment must not write into one file.
  const temporary = `${folder}/.${entryName(entry)}.${Deno.pid}`;
  try {
    Deno.writeTextFileSync(temporary, formatEntry(entry), { createNew: true, mode: 0o600 });
    Deno.renameSync(temporary, path);
  } catch (error) {
    removeFile(temporary);
    throw error;
  }
}

/**
 * Removes an attachment's entry, if there is one. Never throws: a call that takes a pod away must not
 * fail for a note about it, and what stays is found by the next sweep.
 */
export function removeEntry(stateFolder: string, attachment: AttachmentName): void {
  removeFile(`${stateFolder}/${LEDGER_FOLDER}/${entryName(attachment)}`);
}

/** Reads all entries; what is damaged is only named. A missing folder has none. */
export function readEntries(stateFolder: string): LedgerContent {
  const folder = `${stateFolder}/${LEDGER_FOLDER}`;
  const entries: LedgerEntry[] = [];
  const unreadable: string[] = [];
  for (const name of namesIn(folder)) {
    if (name.startsWith(".")) continue;
    const entry = readEntry(`${folder}/${name}`);
    if (entry !== undefined && entryName(entry) === name) entries.push(entry);
    else unreadable.push(name);
  }
  return { entries, unreadable };
}

/** Removes a file of the folder by its name, for example a damaged one. */
export function removeNamed(stateFolder: string, name: string): void {
  if (!name.includes("/")) removeFile(`${stateFolder}/${LEDGER_FOLDER}/${name}`);
}

/** Names of all files, begun ones too, without an order. */
export function namesInLedger(stateFolder: string): string[] {
  return namesIn(`${stateFolder}/${LEDGER_FOLDER}`);
}

function makeFolder(folder: string): void {
  try {
    Deno.mkdirSync(folder, { mode: 0o700 });
    return;
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  if (!Deno.lstatSync(folder).isDirectory) {
    throw new Error(`"${folder}" is not a folder; remove it`);
  }
}

function namesIn(folder: string): string[] {
  const names: string[] = [];
  try {
    for (const { name } of Deno.readDirSync(folder)) {
      names.push(name);
      if (names.length >= MAX_ENTRIES) break;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names;
}

function readEntry(path: string): LedgerEntry | undefined {
  try {
    const { isFile, size } = Deno.lstatSync(path);
    if (!isFile || size > MAX_ENTRY_BYTES) return undefined;
    return parseEntry(JSON.parse(Deno.readTextFileSync(path)));
  } catch {
    return undefined;
  }
}

function removeFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // Not there, or not to be removed: the sweep looks again.
  }
}
