/**
 * Takes everything off the host: chain entries first, program last, so that at no moment a
 * configuration names what is not there. Can be repeated, and continued after an interruption at any
 * point, by any version; also takes away what the reference installer leaves.
 */
import type { Logger } from "../../src/log/log.ts";
import { isConfName, jsonOf } from "../conflist/conf_file.ts";
import { listOf, pluginType, unchain } from "../conflist/conflist.ts";
import { bytesOf } from "../conflist/json_edit.ts";
import { errorText } from "../host/error_text.ts";
import {
  removeFile,
  type Replaced,
  replaceFile,
  sameBytes,
  temporaryName,
} from "../host/host_files.ts";
import { delStub } from "../host/del_stub.ts";
import { installedName, readInstalled, writeInstalled } from "../host/installed.ts";
import { type JournalEntry, readJournal, sha256 } from "../host/journal.ts";
import { lockName } from "../host/lock.ts";
import { namersOf, referrerOf } from "../host/namers.ts";
import { type NetFile, readNetFile } from "../host/observe.ts";
import type { Operations } from "../host/operations.ts";
import { PluginFiles } from "../host/plugin_files.ts";
import { classify } from "../plan/detect.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { recover } from "./recover.ts";
import { headOf, reportOf, type UninstallReport } from "./uninstall_report.ts";

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
 * @returns What was removed, what was not found, and what had to stay.
 * @throws {UninstallError} when a file that names the plugin cannot be put right, or when the program
 * was installed into another folder than the one that is to be cleaned; nothing is removed then.
 */
export async function uninstall(
  settings: Settings,
  operations: Operations,
  log: Logger,
  options: UninstallOptions = {},
): Promise<UninstallReport> {
  const { settle = 1000, patience = 2000 } = options;
  const paths = pathsOf(settings);
  const plugin = new PluginFiles(operations, {
    sourceDir: "",
    binDir: settings.mountedBinDir,
    hostBinDir: paths.hostBinDir,
  });
  refuseWrongFolder(operations, settings, plugin);
  recover(settings, operations, log);
  const restored = new Set<string>();
  const restoreUntil = async (deadline: number) => {
    for (let pause = 20;;) {
      const { done, problems } = restoreAll(settings, operations, log);
      done.forEach((name) => restored.add(name));
      if (problems.length === 0) return;
      if (performance.now() >= deadline) {
        throw new UninstallError(
          `Cannot take the plugin out of the network configuration, so its program stays: ${
            problems.join("; ")
          }`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, 500);
    }
  };
  await restoreUntil(performance.now() + patience);
  if (restored.size > 0) {
    await new Promise((resolve) => setTimeout(resolve, settle));
    // Another program may have written the entry back meanwhile, from its copy of the file.
    await restoreUntil(performance.now());
  }
  removeMovedAside(settings, operations);
  const report = reportOf(operations, settings, plugin, restored);
  operations.remove(paths.kubeconfig);
  plugin.remove(report.stub === undefined ? undefined : delStub(Deno.build.arch));
  if (report.stub === undefined) removeStateDir(operations, paths.stateDir);
  else {
    const { mountedBinDir } = settings;
    const known = readInstalled(operations, paths.stateDir);
    const hostBinDir = known?.hostBinDir ?? paths.hostBinDir;
    writeInstalled(operations, paths.stateDir, { hostBinDir, mountedBinDir });
    removeStateDir(operations, paths.stateDir, installedName);
  }
  operations.remove(settings.readyFile);
  const { removed, notFound, ...rest } = report;
  log.info(headOf(report), { removed, notFound, ...rest });
  return report;
}

/** The program's folder is another one than it was installed to: that one would be left as it is. */
function refuseWrongFolder(
  operations: Operations,
  settings: Settings,
  plugin: PluginFiles,
): void {
  const installed = readInstalled(operations, pathsOf(settings).stateDir);
  const { mountedBinDir } = settings;
  if (installed === undefined || plugin.isThere) return;
  if ([installed.mountedBinDir, installed.hostBinDir].includes(mountedBinDir)) return;
  throw new UninstallError(
    `The plugin was installed into "${installed.hostBinDir}" of the host (seen there as ` +
      `"${installed.mountedBinDir}"), and there is none in "${mountedBinDir}" of ` +
      "MOUNTED_CNI_BIN_DIR; nothing was changed, set it to that folder",
  );
}

/** Restores every configuration file that names the plugin. */
function restoreAll(
  settings: Settings,
  operations: Operations,
  log: Logger,
): { readonly done: readonly string[]; readonly problems: readonly string[] } {
  const folder = settings.mountedNetDir;
  const journal = readJournal(operations, pathsOf(settings).stateDir);
  const problems: string[] = [];
  const done: string[] = [];
  for (const name of (operations.list(folder) ?? []).filter(isConfName)) {
    try {
      const file = readNetFile(operations, folder, name);
      if (file === undefined) continue;
      refuseReferred(operations, settings, file);
      const result = restore(operations, folder, file, journal.get(name));
      if (result === "changed") problems.push(`"${name}" is being written by another program`);
      if (result === "done") {
        done.push(name);
        log.info("Restored", { file: `${settings.netDir}/${name}` });
      }
    } catch (error) {
      problems.push(`"${name}": ${errorText(error)}`);
    }
  }
  if (problems.length === 0) {
    for (const { path, place } of namersOf(operations, settings)) {
      problems.push(`"${path}" names it at ${place}; take it out there`);
    }
  }
  for (const refused of operations.takeRefused()) {
    log.warn(`Cannot keep the extended attribute ${refused}`);
  }
  return { done, problems };
}

/** A file of ours that another one names, such as Multus' `clusterNetwork`, must not go. */
function refuseReferred(operations: Operations, settings: Settings, file: NetFile): void {
  const { kind } = classify(file);
  if (kind !== "own" && kind !== "derived") return;
  const referrer = referrerOf(operations, settings, file.name);
  if (referrer === undefined) return;
  throw new Error(
    `"${referrer.path}" names this file at ${referrer.place}; let it name the primary plugin's`,
  );
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
    // Mode and owner were never changed here: what they are now, somebody else has decided since.
    const content = new Uint8Array(entry.before.content);
    return replaceFile(operations, path, file.content, content, file.status);
  }
  const bare = unchain(listOf(jsonOf(file)));
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

/**
 * Removes our own folder in the net dir with everything in it, the lock last.
 *
 * @param kept Name of a file that stays, and the folder with it.
 */
function removeStateDir(operations: Operations, path: string, kept?: string): void {
  const status = operations.status(path);
  if (status === undefined) return;
  if (status.kind !== "directory") return operations.remove(path);
  const names = operations.list(path) ?? [];
  for (const name of names.filter((name) => name !== lockName && name !== kept)) {
    const inside = operations.status(`${path}/${name}`)?.kind === "directory"
      ? operations.list(`${path}/${name}`) ?? []
      : [];
    for (const entry of inside) operations.remove(`${path}/${name}/${entry}`);
    operations.remove(`${path}/${name}`);
  }
  if (names.includes(lockName)) operations.remove(`${path}/${lockName}`);
  if (kept !== undefined) return;
  try {
    operations.remove(path);
  } catch (error) {
    // A new install-cni that has waited for the lock may have moved in already.
    if ((operations.list(path) ?? []).length === 0) throw error;
  }
}
