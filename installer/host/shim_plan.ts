/**
 * Where the files go when runtimes start the shim: it gets the plugin's name, and the plugin a folder
 * of its own that is named after its content, so that calls in flight find theirs.
 */
import { misfitOf, withPaths } from "../../src/shim/places.ts";
import { pluginType } from "../conflist/conflist.ts";
import { folderOf } from "./host_files.ts";
import { libraryFolder } from "./interpreter.ts";
import type { Operations } from "./operations.ts";
import type { PlannedFile, PluginPlaces } from "./plugin_plan.ts";
import type { startShim } from "./program_start.ts";

/** What the shim needs to know of the host. */
export interface ShimPlaces {
  /** Path on the host of the socket on which the agent answers calls. */
  readonly hostSocket: string;
  /** The folder that the socket's path begins with, as this process sees it. */
  readonly netDir: string;
}

/** Whether runtimes start the shim, or why they start the plugin. */
export type ShimChoice =
  | { readonly kind: "shim"; readonly source: string; readonly bytes: Uint8Array<ArrayBuffer> }
  | {
    readonly kind: "plugin";
    readonly reason: string;
    /** Whether somebody wanted it otherwise. */
    readonly isTrouble: boolean;
  };

/**
 * Chooses. What speaks against the shim is never an error: the plugin is complete without it.
 *
 * @param start Starts the image's own shim once, which knows nobody yet.
 */
export function chooseShim(
  operations: Operations,
  { sourceDir, binDir, hostBinDir, shim }: PluginPlaces,
  start: typeof startShim,
): ShimChoice {
  const trouble = (reason: string): ShimChoice => ({ kind: "plugin", reason, isTrouble: true });
  if (shim === undefined) return { kind: "plugin", reason: "it is switched off", isTrouble: false };
  const source = `${sourceDir}/${pluginType}.shim`;
  const bytes = operations.targetStatus(source)?.kind === "file"
    ? operations.read(source)
    : undefined;
  if (bytes === undefined) {
    return { kind: "plugin", reason: "the image was built without it", isTrouble: false };
  }
  for (const folder of [binDir, shim.netDir]) {
    const open = openFolderAbove(operations, folder);
    if (open !== undefined) return trouble(`everybody can write to "${open}", where it would look`);
  }
  const longest = `${hostBinDir}/${libraryFolder}/${"0".repeat(nameLength)}/${pluginType}`;
  const misfit = misfitOf({ socket: shim.hostSocket, program: longest });
  if (misfit !== undefined) return trouble(misfit);
  const started = start(source);
  return started.kind === "failed"
    ? trouble(`"${source}" does not start: ${started.reason}`)
    : { kind: "shim", source, bytes };
}

/** Letters of a hash that make a folder's name. */
const nameLength = 32;

/**
 * Puts the shim in the plugin's place and the plugin into its own folder, before the shim.
 *
 * @param files Libraries and plugin as they are without a shim.
 * @param hash SHA-256 of the plugin as it will be on the host, hexadecimal.
 * @throws {ShimError} when the file is no shim.
 */
export function withShim(
  files: readonly PlannedFile[],
  { source, bytes }: ShimChoice & { readonly kind: "shim" },
  hash: string,
  { binDir, hostBinDir, shim }: PluginPlaces,
): readonly PlannedFile[] {
  const own = `${libraryFolder}/${hash.slice(0, nameLength)}/${pluginType}`;
  const paths = { socket: shim!.hostSocket, program: `${hostBinDir}/${own}` };
  return [
    ...files.map((file) => file.role === "plugin" ? { ...file, target: `${binDir}/${own}` } : file),
    {
      source,
      target: `${binDir}/${pluginType}`,
      mode: 0o755,
      role: "shim",
      patch: { offset: 0, bytes: withPaths(bytes, paths) },
    },
  ];
}

/**
 * Finds a folder on a path in which everybody may put another thing in place of the next one. With the
 * sticky bit, as `/tmp` has it, they may not.
 */
function openFolderAbove(operations: Operations, path: string): string | undefined {
  for (let folder = path;; folder = folderOf(folder)) {
    const mode = operations.targetStatus(folder)?.mode ?? 0;
    if ((mode & 0o002) !== 0 && (mode & 0o1000) === 0) return folder;
    if (folder === "/") return undefined;
  }
}
