/**
 * Takes everything off the host: chain entries first, program last, so that at no moment a
 * configuration names what is not there. Can be repeated, and continued after an interruption at any
 * point, by any version; also takes away what the reference installer leaves.
 */
import type { Logger } from "../../src/log/log.ts";
import { messageOf } from "../../src/log/message_of.ts";
import { isConfName } from "../conflist/conf_file.ts";
import { parseList, pluginType, typesOf, unchain } from "../conflist/conflist.ts";
import { bytesOf } from "../conflist/json_edit.ts";
import {
  removeFile,
  type Replaced,
  replaceFile,
  sameBytes,
  temporaryName,
} from "../host/host_files.ts";
import { type JournalEntry, readJournal, sha256 } from "../host/journal.ts";
import { lockName } from "../host/lock.ts";
import { type NetFile, readNetFile } from "../host/observe.ts";
import type { Operations } from "../host/operations.ts";
import { PluginFiles } from "../host/plugin_files.ts";
import { classify } from "../plan/detect.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { recover } from "./recover.ts";

/** Files that still name the plugin; program and kubeconfig were therefore left in place. */
export class UninstallError extends Error {
  override readonly name = "UninstallError";
}

/** Choices of {@linkcode uninstall}. */
export interface UninstallOptions {
  /**
   * Milliseconds between the last chain entry going and the program going, in which runtimes load the
   * new configuration; by default 1000. Not waited when nothing was chained.
   */
  readonly settle?: number;
  /** Milliseconds to wait for files that another program is writing; by default 2000. */
  readonly patience?: number;
}

/**
 * Uninstalls.
 *
 * @throws {UninstallError} when a file that names the plugin cannot be put right.
 */
export async function uninstall(
  settings: Settings,
  operations: Operations,
  log: Logger,
  options: UninstallOptions = {},
): Promise<void> {
  const { settle = 1000, patience = 2000 } = options;
  const paths = pathsOf(settings);
  const deadline = performance.now() + patience;
  recover(settings, operations, log);
  let changed = 0;
  for (let pause = 20;;) {
    const result = restoreAll(settings, operations, log);
    changed += result.changed;
    if (result.problems.length === 0) break;
    if (performance.now() >= deadline) {
      throw new UninstallError(
        `Cannot take the plugin out of the network configuration, so its program stays: ${
          result.problems.join("; ")
        }`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, 500);
  }
  if (changed > 0) {
    await new Promise((resolve) => setTimeout(resolve, settle));
    // Another program may have written the entry back meanwhile, from its copy of the file.
    const again = restoreAll(settings, operations, log);
    if (again.problems.length > 0) throw new UninstallError(again.problems.join("; "));
  }
  removeMovedAside(settings, operations);
  operations.remove(paths.kubeconfig);
  new PluginFiles(operations, {
    sourceDir: "",
    binDir: settings.mountedBinDir,
    hostBinDir: paths.hostBinDir,
  }).remove();
  removeStateDir(operations, paths.stateDir);
  operations.remove(settings.readyFile);
  log.info("Uninstalled");
}

/** Restores every configuration file that names the plugin. */
function restoreAll(
  settings: Settings,
  operations: Operations,
  log: Logger,
): { readonly changed: number; readonly problems: readonly string[] } {
  const folder = settings.mountedNetDir;
  const journal = readJournal(operations, pathsOf(settings).stateDir);
  const problems: string[] = [];
  let changed = 0;
  for (const name of (operations.list(folder) ?? []).filter(isConfName)) {
    try {
      const file = readNetFile(operations, folder, name);
      if (file === undefined) continue;
      const result = restore(operations, folder, file, journal.get(name));
      if (result === "changed") problems.push(`"${name}" is being written by another program`);
      if (result === "done") {
        changed++;
        log.info("Restored", { file: `${settings.netDir}/${name}` });
      }
    } catch (error) {
      problems.push(`"${name}": ${messageOf(error)}`);
    }
  }
  return { changed, problems };
}

/** Restores one configuration file. */
function restore(
  operations: Operations,
  folder: string,
  file: NetFile,
  entry: JournalEntry | undefined,
): Replaced | "untouched" {
  const path = `${folder}/${file.name}`;
  const is = classify(file);
  // Nobody can have put our entry into something that holds no text.
  if (file.status.kind !== "file") return "untouched";
  if (is.kind === "broken") {
    if (file.text?.includes(`"${pluginType}"`) || file.content === undefined) {
      throw new Error(is.reason);
    }
    return "untouched";
  }
  if (is.kind === "reference-list") {
    const content = bytesOf(is.repaired);
    return replaceFile(operations, path, file.content, content, file.status);
  }
  const isAsWritten = entry !== undefined && file.content !== undefined &&
    sha256(file.content) === entry.wrote;
  if (is.kind === "own" || is.kind === "derived") {
    const isOld = isAsWritten && entry.before.kind !== "absent";
    if (!isOld) return removeFile(operations, path, file.content);
  } else if (is.kind !== "list" || !is.types.includes(pluginType)) return "untouched";

  if (isAsWritten && entry.before.kind === "link") {
    return restoreLink(operations, path, file, entry.before.target);
  }
  if (isAsWritten && entry.before.kind === "file") {
    const { content, mode, uid, gid } = entry.before;
    return replaceFile(operations, path, file.content, new Uint8Array(content), { mode, uid, gid });
  }
  const bare = unchain(file.text!);
  if (typesOf(parseList(bare)).length === 0) return removeFile(operations, path, file.content);
  return replaceFile(operations, path, file.content, bytesOf(bare), file.status);
}

/** Cilium, when it claims the folder for itself, moves others' files aside by this extension. */
const movedAside = ".cilium_bak";

/** Removes files of our own that were moved aside; no runtime loads them. */
function removeMovedAside(settings: Settings, operations: Operations): void {
  const folder = settings.mountedNetDir;
  for (const name of operations.list(folder) ?? []) {
    if (!name.endsWith(movedAside)) continue;
    const file = readNetFile(operations, folder, name);
    if (file === undefined) continue;
    const { kind } = classify({ ...file, name: name.slice(0, -movedAside.length) });
    if (kind === "own" || kind === "derived") operations.remove(`${folder}/${name}`);
  }
}

function restoreLink(
  operations: Operations,
  path: string,
  file: NetFile,
  target: string,
): Replaced {
  if (!sameBytes(operations.read(path), file.content)) return "changed";
  const temporary = temporaryName(path);
  operations.link(target, temporary);
  operations.rename(temporary, path);
  return "done";
}

/** Removes our own folder in the net dir with everything in it, the lock last. */
function removeStateDir(operations: Operations, path: string): void {
  const status = operations.status(path);
  if (status === undefined) return;
  if (status.kind !== "directory") return operations.remove(path);
  const names = operations.list(path) ?? [];
  for (const name of names.filter((name) => name !== lockName)) {
    operations.remove(`${path}/${name}`);
  }
  if (names.includes(lockName)) operations.remove(`${path}/${lockName}`);
  try {
    operations.remove(path);
  } catch (error) {
    // A new install-cni that has waited for the lock may have moved in already.
    if ((operations.list(path) ?? []).length === 0) throw error;
  }
}
