/** Which files make the plugin on the host, and what they are made of. */
import { pluginType } from "../conflist/conflist.ts";
import { appendedLength, trailerSize } from "./appended_data.ts";
import type { Content, Patch } from "./file_content.ts";
import {
  findInterpreterSlot,
  InterpreterError,
  interpreterSlotContent,
  libraryFolder,
} from "./interpreter.ts";
import type { Operations } from "./operations.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import type { ShimPlaces } from "./shim_plan.ts";

/** Where the plugin comes from and goes to. */
export interface PluginPlaces {
  /**
   * Folder with `kuma-cni` and, for a self-contained plugin, `kuma-cni.lib/`. Where `kuma-cni` is a name
   * of another program with the same runtime, `kuma-cni.payload` makes it the plugin.
   */
  readonly sourceDir: string;
  /** The host's bin dir as this process sees it. */
  readonly binDir: string;
  /** The same folder's path on the host. */
  readonly hostBinDir: string;
  /** What the shim needs to know; without it the plugin itself is what runtimes start. */
  readonly shim?: ShimPlaces;
}

/**
 * Tells where the plugin's files come from and go to. Whoever only compares them must be told the same
 * as who installs them, else a shim would be taken for a wrong plugin.
 */
export function pluginPlacesOf(settings: Settings, sourceDir: string): PluginPlaces {
  const { hostBinDir, hostCallSocket } = pathsOf(settings);
  const { mountedBinDir, mountedNetDir, shim } = settings;
  return {
    sourceDir,
    binDir: mountedBinDir,
    hostBinDir,
    ...(shim ? { shim: { hostSocket: hostCallSocket, netDir: mountedNetDir } } : {}),
  };
}

/** A file to be installed. */
export interface PlannedFile extends Content {
  readonly target: string;
  readonly mode: number;
  /** What it is tried as before it gets its name; libraries are not tried. */
  readonly role: "library" | "plugin" | "shim";
  /** The patch for a start from the folder as this process sees it, where it fits. */
  readonly trial?: Patch | undefined;
}

/**
 * Tells which files make the plugin: libraries first, the program last.
 *
 * @throws {Error} when the image has no plugin that can be installed.
 */
export function planPluginFiles(
  operations: Operations,
  places: PluginPlaces,
): readonly PlannedFile[] {
  const { sourceDir, binDir, hostBinDir } = places;
  const program = `${sourceDir}/${pluginType}`;
  const status = operations.targetStatus(program);
  if (status === undefined) {
    throw new Error(
      `Cannot find the plugin "${program}"; it belongs to the image, or set CNI_SOURCE_DIR`,
    );
  }
  // Opening a FIFO would wait for ever.
  if (status.kind !== "file") {
    throw new Error(`Cannot use the plugin "${program}": it is not a regular file`);
  }
  const target = `${binDir}/${pluginType}`;
  const mode = (status.mode & 0o755) | 0o111;
  const libraries = librariesIn(operations, `${sourceDir}/${pluginType}.lib`, "");
  const loader = libraries.find((name) => /(^|\/)ld-[^/]*\.so/.test(name));
  const payload = payloadOf(operations, program, status.size);
  const planned = { source: program, target, mode, role: "plugin" as const, ...payload };
  if (loader === undefined) return [planned];
  const files = libraries.map((name) => ({
    source: `${sourceDir}/${pluginType}.lib/${name}`,
    target: `${binDir}/${libraryFolder}/${name}`,
    mode: 0o755,
    role: "library" as const,
  }));
  using file = Deno.openSync(program, { read: true });
  const slot = findInterpreterSlot((offset, length) => readAt(file, offset, length));
  const bytes = interpreterSlotContent(`${hostBinDir}/${libraryFolder}/${loader}`);
  const patch = { offset: slot.offset, bytes };
  const trial = trialPatch(slot.offset, `${binDir}/${libraryFolder}/${loader}`);
  return [...files, { ...planned, patch, trial }];
}

/** What makes the program the plugin, when the image has that in a file of its own. */
function payloadOf(
  operations: Operations,
  program: string,
  size: number,
): Pick<PlannedFile, "end"> {
  const source = `${program}.payload`;
  if (operations.targetStatus(source) === undefined) return {};
  using file = Deno.openSync(program, { read: true });
  const length = appendedLength(readAt(file, Math.max(0, size - trailerSize), trailerSize), size);
  if (length === undefined) {
    throw new Error(
      `Cannot make the plugin of "${program}" and "${source}": the former is not a compiled ` +
        "program; both belong to the image",
    );
  }
  return { end: { at: size - length, source } };
}

/** A folder whose path is too long in the container may still be short enough on the host. */
function trialPatch(offset: number, loader: string): Patch | undefined {
  try {
    return { offset, bytes: interpreterSlotContent(loader) };
  } catch (error) {
    if (error instanceof InterpreterError) return undefined;
    throw error;
  }
}

/** Relative names of the libraries; they may stand in a folder named after their version. */
function librariesIn(operations: Operations, folder: string, prefix: string): string[] {
  return (operations.list(folder) ?? []).flatMap((name) => {
    const kind = operations.targetStatus(`${folder}/${name}`)?.kind;
    if (kind === "directory" && prefix === "") {
      return librariesIn(operations, `${folder}/${name}`, `${name}/`);
    }
    return kind === "file" ? [prefix + name] : [];
  });
}

function readAt(file: Deno.FsFile, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  file.seekSync(offset, Deno.SeekMode.Start);
  let read = 0;
  while (read < length) {
    const n = file.readSync(bytes.subarray(read));
    if (n === null) break;
    read += n;
  }
  return bytes.subarray(0, read);
}
