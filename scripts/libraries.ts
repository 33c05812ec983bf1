/** Collects the dynamic loader and the shared libraries that a program needs. */
import { ElfError, readElfHeader, readerOf } from "../installer/host/elf_header.ts";
import { sha256 } from "./sha256.ts";
import { describeElf } from "./elf.ts";

/** The libraries are not to be had; the message tells what to do. */
export class LibraryError extends Error {
  override readonly name = "LibraryError";
}

/** What was collected. */
export interface CollectedLibraries {
  /** Name of the folder that holds them: a digest of their names and contents. */
  readonly version: string;
  /** The file names, the loader first. */
  readonly names: readonly string[];
}

/**
 * Copies the loader and libraries that denort needs into `<into>/<version>/`, replacing what was in
 * `into`. Each set of libraries has a folder of its own, so that on a host an old and a new plugin,
 * each with its own C library, can stand side by side while one replaces the other.
 *
 * All come from the one folder that holds libc.so.6: loader and C library must be of one build.
 *
 * @param options `denort`: the program's bytes; `into`: folder to write; `from`: folder to take them
 * from, by default the build machine's own library folder.
 * @returns The name of the version's folder and the file names.
 * @throws {LibraryError} when one is missing or of another architecture.
 */
export async function collectLibraries(
  options: { denort: Uint8Array; into: string; from?: string },
): Promise<CollectedLibraries> {
  const { machine, interpreter, needed } = describeElf(options.denort);
  const loader = interpreter.slice(interpreter.lastIndexOf("/") + 1);
  const names = [...new Set([loader, ...needed])];
  const from = options.from ?? libraryFolderOf(machine);
  const libraries = names.map((name) => [name, readLibrary(`${from}/${name}`, machine)] as const);
  const version = await digest(libraries);

  const temporary = `${options.into}.new`;
  await Deno.mkdir(options.into.slice(0, options.into.lastIndexOf("/")), { recursive: true });
  for (const folder of [temporary, options.into]) {
    try {
      await Deno.remove(folder, { recursive: true });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  await Deno.mkdir(`${temporary}/${version}`, { recursive: true });
  for (const [name, bytes] of libraries) {
    await Deno.writeFile(`${temporary}/${version}/${name}`, bytes, { mode: 0o755 });
  }
  await Deno.rename(temporary, options.into);
  return { version, names };
}

/** Digest of names and contents, short enough for a folder's name. */
async function digest(libraries: readonly (readonly [string, Uint8Array])[]): Promise<string> {
  const parts: string[] = [];
  for (const [name, bytes] of libraries) parts.push(`${await sha256(bytes)}  ${name}\n`);
  return (await sha256(new TextEncoder().encode(parts.sort().join("")))).slice(0, 16);
}

/** The build machine's folder with a C library for a machine type. */
function libraryFolderOf(machine: string): string {
  // The order of Debian's, Red Hat's and other systems' loaders.
  const candidates = [
    `/lib/${machine}-linux-gnu`,
    `/usr/lib/${machine}-linux-gnu`,
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
  ];
  for (const folder of candidates) {
    try {
      if (describeMachine(`${folder}/libc.so.6`) === machine) return folder;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new LibraryError(
    `Cannot collect the C library for ${machine}: this machine has none (libc.so.6 of glibc) in ` +
      `${candidates.join(", ")}; name a folder that has one with --libraries`,
  );
}

function readLibrary(path: string, machine: string): Uint8Array {
  let actual: string | undefined;
  try {
    actual = describeMachine(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new LibraryError(
      `Cannot collect "${path}": there is no such file; install it (Debian: libc6, libgcc-s1), or ` +
        "name another folder with --libraries",
    );
  }
  if (actual !== machine) {
    throw new LibraryError(`Cannot collect "${path}": it is for ${actual}, expected ${machine}`);
  }
  return Deno.readFileSync(path);
}

/** Machine type in the ELF header of a library. */
function describeMachine(path: string): string {
  using file = Deno.openSync(path);
  const bytes = new Uint8Array(64);
  const length = file.readSync(bytes) ?? 0;
  try {
    return readElfHeader(readerOf(bytes.subarray(0, length))).machine;
  } catch (error) {
    if (!(error instanceof ElfError)) throw error;
    // Many machines have libraries of 32 bits in one of the folders.
    return "no machine of 64 bits";
  }
}
