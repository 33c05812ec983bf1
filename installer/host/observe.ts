/** What the installer sees of the host before it decides. Nothing here changes anything. */
import { type ConfFile, isConfName } from "../conflist/conf_file.ts";
import { byteString } from "../conflist/json_edit.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { type BinDirPath, compareBinDir } from "./bin_dir_path.ts";
import { errorText } from "./error_text.ts";
import { type Journal, journalPath, parseJournal } from "./journal.ts";
import type { FileStatus, Operations } from "./operations.ts";
import type { PluginFiles, PluginState } from "./plugin_files.ts";
import { type RuntimeView, viewRuntime } from "./runtime_view.ts";

/** A file of the net dir. */
export interface NetFile extends ConfFile {
  readonly content?: Uint8Array<ArrayBuffer>;
  /** Mode and owner; of a link, those of the file that it points to. */
  readonly status: FileStatus;
  /** Where it points to, when it is a symbolic link. */
  readonly link?: string;
}

/** Text of a file, or why there is none. */
export type Readable = { readonly text: string } | { readonly problem: string };

/** Everything that a decision depends on. */
export interface Observed {
  /** A folder of the host that is not there, with the setting that names it. */
  readonly missingFolder: string | undefined;
  /** Configuration files in the order in which runtimes load them. */
  readonly files: readonly NetFile[];
  /** How many more there are than are looked at. */
  readonly unread: number;
  readonly kubeconfig: NetFile | undefined;
  /** The bin dir's path on the host, when the plugin's program depends on it. */
  readonly binDirPath: BinDirPath;
  /** `unknown`: it cannot be compared; `unseen`: there was no time to. */
  readonly plugin: PluginState | {
    readonly kind: "unknown" | "unseen";
    readonly reason: string;
  };
  readonly token: Readable;
  readonly certificateAuthority: Readable;
  readonly journal: Journal;
  /** The runtime, and what it finds. */
  readonly view: RuntimeView;
  /** When this was seen, in milliseconds since the epoch. */
  readonly at: number;
}

/** Bound of a configuration file in bytes; real ones have a few kilobytes. */
const sizeLimit = 1 << 20;
/** Bounds of all of them together: a folder that somebody fills must not take the agent's memory and time. */
export const mostFiles = 256;
const mostBytes = 4 << 20;

/** Looks at everything. */
export async function observe(
  operations: Operations,
  settings: Settings,
  plugin: PluginFiles,
): Promise<Observed> {
  const paths = pathsOf(settings);
  const pluginState = await plugin.inspect().catch((error: unknown) => ({
    kind: "unknown" as const,
    reason: errorText(error),
  }));
  // From here on synchronous: the picture of the net dir is as close to one moment as can be.
  const names = confNames(operations, settings);
  const files = readNetFiles(operations, settings, names?.names ?? []);
  return {
    missingFolder: names === undefined
      ? `"${settings.mountedNetDir}" of MOUNTED_CNI_NET_DIR`
      : operations.targetStatus(settings.mountedBinDir)?.kind !== "directory"
      ? `"${settings.mountedBinDir}" of MOUNTED_CNI_BIN_DIR`
      : undefined,
    files,
    unread: names?.unread ?? 0,
    kubeconfig: readNetFile(operations, settings.mountedNetDir, settings.kubeconfigName),
    binDirPath: plugin.needsHostPath
      ? compareBinDir(settings.mountedBinDir, paths.hostBinDir)
      : { kind: "likely" },
    plugin: pluginState,
    token: readText(operations, settings.tokenFile),
    certificateAuthority: readText(operations, settings.caFile),
    journal: parseJournal(orUndefined(() => operations.read(journalPath(paths.stateDir)))),
    view: viewRuntime(
      operations,
      settings,
      files,
      (folder, name) => readNetFile(operations, folder, name),
    ),
    at: Date.now(),
  };
}

/** Names of the configuration files that are looked at, in the order of their bytes. */
export function confNames(
  operations: Operations,
  settings: Settings,
): { readonly names: readonly string[]; readonly unread: number } | undefined {
  const all = operations.list(settings.mountedNetDir)?.filter(isConfName);
  if (all === undefined) return undefined;
  // Runtimes load the first ones; that of the settings may be any.
  const names = all.filter((name, i) => i < mostFiles || name === settings.confName);
  return { names, unread: all.length - names.length };
}

/** Reads the configuration files of the net dir. */
export function readNetFiles(
  operations: Operations,
  settings: Settings,
  names: readonly string[],
): NetFile[] {
  const { mountedNetDir, confName } = settings;
  let bytes = 0;
  return names.flatMap((name): NetFile[] => {
    if (bytes > mostBytes && name !== confName) {
      const status = operations.targetStatus(`${mountedNetDir}/${name}`);
      if (status === undefined || status.kind === "directory") return [];
      const problem = `The files before it have more than ${mostBytes} bytes, so it was not read`;
      return [{ name, status, problem }];
    }
    const file = readNetFile(operations, mountedNetDir, name);
    bytes += file?.content?.length ?? 0;
    return file === undefined ? [] : [file];
  });
}

/** Reads one file of the net dir; directories are no files to us. */
export function readNetFile(
  operations: Operations,
  folder: string,
  name: string,
): NetFile | undefined {
  const path = `${folder}/${name}`;
  const own = operations.status(path);
  if (own === undefined) return undefined;
  const link = own.kind === "link" ? { link: operations.readLink(path) } : {};
  const status = own.kind === "link" ? operations.targetStatus(path) : own;
  if (status === undefined) {
    return { name, status: own, ...link, problem: "It is a link to a file that is not there" };
  }
  if (status.kind === "directory") return undefined;
  if (status.kind !== "file") return { name, status, ...link, problem: "It is not a regular file" };
  if (status.size > sizeLimit) {
    return { name, status, ...link, problem: `It has ${status.size} bytes, at most ${sizeLimit}` };
  }
  try {
    const content = operations.read(path);
    if (content === undefined) return undefined;
    return { name, status, ...link, content, text: byteString(content) };
  } catch (error) {
    return { name, status, ...link, problem: errorText(error) };
  }
}

function readText(operations: Operations, path: string): Readable {
  try {
    const bytes = operations.read(path);
    if (bytes === undefined) return { problem: `"${path}" is missing` };
    const text = new TextDecoder().decode(bytes);
    return text.trim() === "" ? { problem: `"${path}" is empty` } : { text };
  } catch (error) {
    return { problem: `Cannot read "${path}": ${errorText(error)}` };
  }
}

function orUndefined<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
