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
  const names = operations.list(settings.mountedNetDir);
  const files = (names ?? []).filter(isConfName)
    .flatMap((name) => readNetFile(operations, settings.mountedNetDir, name) ?? []);
  return {
    missingFolder: names === undefined
      ? `"${settings.mountedNetDir}" of MOUNTED_CNI_NET_DIR`
      : operations.targetStatus(settings.mountedBinDir)?.kind !== "directory"
      ? `"${settings.mountedBinDir}" of MOUNTED_CNI_BIN_DIR`
      : undefined,
    files,
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
