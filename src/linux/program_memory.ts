/**
 * Gives back memory of the running program's own file. Starting up touches most of a compiled
 * program's 90 MB once; a process that stays for months needs a small part of that.
 *
 * Needs `--allow-ffi`. Facts: proc(5) (`/proc/pid/smaps`), madvise(2).
 */
import { loadFunctions } from "./libc.ts";
import { readKernelFile } from "./kernel_file.ts";

const MADV_DONTNEED = 4;

const interfaceOfLibc = {
  madvise: { parameters: ["usize", "usize", "i32"], result: "i32" },
} as const;

let loaded: Deno.DynamicLibrary<typeof interfaceOfLibc>["symbols"] | undefined;

/** A part of the address space that shows a file. */
export interface FileMapping {
  readonly start: bigint;
  readonly length: bigint;
}

/**
 * Finds where a process shows a file's own, unchanged bytes: mappings that cannot be written to and
 * have no page that was ever written.
 *
 * @param smaps Text of `/proc/<pid>/smaps`.
 * @param path The file.
 */
export function unchangedMappings(smaps: string, path: string): FileMapping[] {
  const found: FileMapping[] = [];
  const header = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+(?: +(.*))?$/;
  let current: FileMapping | undefined;
  for (const line of smaps.split("\n")) {
    const mapping = header.exec(line);
    if (mapping !== null) {
      const [, from = "", to = "", permissions, name] = mapping;
      const [start, end] = [BigInt(`0x${from}`), BigInt(`0x${to}`)];
      const isReadOnly = permissions === "r--p" || permissions === "r-xp";
      current = isReadOnly && name === path ? { start, length: end - start } : undefined;
    } else if (line.startsWith("Anonymous:")) {
      if (current !== undefined && /^Anonymous: +0 kB$/.test(line)) found.push(current);
      current = undefined;
    }
  }
  return found;
}

/**
 * Lets go of the pages of this program's file that hold nothing but what stands in the file; the
 * kernel brings those back that are needed again, usually from its cache.
 *
 * @param program Path of the running program.
 * @returns How many bytes of the address space were let go of.
 * @throws {LinuxError} when the kernel does not tell what is mapped.
 */
export function releaseProgramPages(program: string): number {
  const { madvise } = loaded ??= loadFunctions(interfaceOfLibc);
  let released = 0;
  for (const { start, length } of unchangedMappings(readKernelFile("/proc/self/smaps"), program)) {
    if (madvise(start, length, MADV_DONTNEED) === 0) released += Number(length);
  }
  return released;
}
