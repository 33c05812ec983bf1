/** Puts away what killed processes left behind. */
import type { Logger } from "../../src/log/log.ts";
import { isConfName } from "../conflist/conf_file.ts";
import { pluginType } from "../conflist/conflist.ts";
import { JsonError, parseJson } from "../conflist/json_edit.ts";
import { replaceFile, sameBytes, targetOfTemporaryName } from "../host/host_files.ts";
import { libraryFolder } from "../host/interpreter.ts";
import { readJournal, sha256 } from "../host/journal.ts";
import { readNetFile } from "../host/observe.ts";
import type { Operations } from "../host/operations.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";

/**
 * Removes temporary files, ours and the reference installer's, after saving another program's change
 * from them. Only the holder of the node's lock may call it.
 */
export function recover(settings: Settings, operations: Operations, log: Logger): void {
  const { mountedNetDir, mountedBinDir } = settings;
  const libraries = `${mountedBinDir}/${libraryFolder}`;
  const versions = (operations.list(libraries) ?? []).map((name) => `${libraries}/${name}`)
    .filter((path) => operations.status(path)?.kind === "directory");
  const { stateDir } = pathsOf(settings);
  for (const folder of [mountedNetDir, stateDir, mountedBinDir, libraries, ...versions]) {
    for (const name of operations.list(folder) ?? []) {
      const target = targetOfTemporaryName(name);
      if (target !== undefined) {
        if (folder === mountedNetDir && isConfName(target)) {
          saveForeignChange(settings, operations, log, name, target);
        }
        operations.remove(`${folder}/${name}`);
      } else if (
        (folder === mountedBinDir && isReferenceTemporary(name, pluginType)) ||
        (folder === mountedNetDir && isReferenceTemporary(name, settings.kubeconfigName))
      ) {
        operations.remove(`${folder}/${name}`);
      }
    }
  }
}

/**
 * A process that was killed between swapping our file in and comparing what it swapped out may have
 * left the newest foreign content under the temporary name.
 */
function saveForeignChange(
  settings: Settings,
  operations: Operations,
  log: Logger,
  temporary: string,
  target: string,
): void {
  const folder = settings.mountedNetDir;
  const left = readNetFile(operations, folder, temporary);
  const current = readNetFile(operations, folder, target);
  const entry = readJournal(operations, pathsOf(settings).stateDir).get(target);
  if (left?.content === undefined || current?.content === undefined) return;
  if (entry === undefined || entry.before.kind !== "file") return;
  const isOurs = sha256(current.content) === entry.wrote;
  const isOld = sameBytes(left.content, entry.before.content) ||
    sha256(left.content) === entry.wrote;
  if (!isOurs || isOld || !isJson(left.text)) return;
  log.warn("Restoring another program's change that an interrupted write took out", {
    file: `${settings.netDir}/${target}`,
  });
  replaceFile(operations, `${folder}/${target}`, current.content, left.content, left.status);
}

/** The reference installer's temporary files have the target's name and random digits. */
function isReferenceTemporary(name: string, target: string): boolean {
  return name.startsWith(target) && /^[0-9]{5,}$/.test(name.slice(target.length));
}

function isJson(text: string | undefined): boolean {
  try {
    parseJson(text ?? "");
    return true;
  } catch (error) {
    if (error instanceof JsonError) return false;
    throw error;
  }
}
