/** Collects the dynamic loader and the shared libraries that a program needs. */
import { describeElf, ElfError } from "./elf.ts";

/** The libraries are not to be had; the message tells what to do. */
export class LibraryError extends Error {
  override readonly name = "LibraryError";
}

/**
 * Copies the loader and libraries that denort needs into a folder, replacing what was there.
 *
 * All come from the one folder that holds libc.so.6: loader and C library must be of one build.
 *
 * @param options `denort`: the program's bytes; `into`: folder to write; `from`: folder to take them
 * from, by default the build machine's own library folder.
 * @returns The file names.
 * @throws {LibraryError} when one is missing or of another architecture.
 */
export async function collectLibraries(
  options: { denort: Uint8Array; into: string; from?: string },
): Promise<string[]> {
  const { machine, interpreter, needed } = describeElf(options.denort);
  const loader = interpreter.slice(interpreter.lastIndexOf("/") + 1);
  const names = [...new Set([loader, ...needed])];
  const from = options.from ?? libraryFolderOf(machine);
  const libraries = names.map((name) => [name, readLibrary(`${from}/${name}`, machine)] as const);

  const temporary = `${options.into}.new`;
  await Deno.mkdir(options.into.slice(0, options.into.lastIndexOf("/")), { recursive: true });
  for (const folder of [temporary, options.into]) {
    try {
      await Deno.remove(folder, { recursive: true });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  await Deno.mkdir(temporary);
  for (const [name, bytes] of libraries) {
    await Deno.writeFile(`${temporary}/${name}`, bytes, { mode: 0o755 });
  }
  await Deno.rename(temporary, options.into);
  return names;
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
    throw new LibraryError(`Cannot collect "${path}": it is for ${actual}, wanted ${machine}`);
  }
  return Deno.readFileSync(path);
}

const machineNumbers: Readonly<Record<number, string>> = { 62: "x86_64", 183: "aarch64" };

/** Machine type in the ELF header of a library. */
function describeMachine(path: string): string {
  using file = Deno.openSync(path);
  const header = new Uint8Array(20);
  const length = file.readSync(header);
  const view = new DataView(header.buffer);
  if (length !== 20 || view.getUint32(0) !== 0x7f454c46) {
    throw new ElfError(`Cannot read "${path}": it is no ELF file`);
  }
  const number = view.getUint16(18, true);
  return machineNumbers[number] ?? `machine ${number}`;
}
