/**
 * The plugin's program interpreter: the path of the dynamic loader that the kernel starts for it.
 *
 * The build gives the plugin a slot of fixed size for that path, so that installing it next to its
 * own C library (`<bin dir>/kuma-cni.d/`) means overwriting these bytes and moving nothing. The
 * kernel reads the path from the file at `p_offset` of `PT_INTERP`, takes it up to the first NUL and
 * wants the last of the `p_filesz` bytes to be NUL (Linux, fs/binfmt_elf.c).
 */

import { ElfError, PT_INTERP, type ReadAt, readerOf, readProgramHeaders } from "./elf_header.ts";

/** Bytes of the slot, including the final NUL: the longest interpreter path is one byte shorter. */
export const interpreterSlotSize = 256;

/** Marks our slot: these 16 bytes stand directly before it in the file. */
export function interpreterMarker(): Uint8Array {
  return new TextEncoder().encode("kuma-cni:interp\0");
}

/** Folder beside the installed plugin that holds its loader and libraries. */
export const libraryFolder = "kuma-cni.d";

/** Where the slot is in the program's file. */
export interface InterpreterSlot {
  /** Offset in the file, in bytes. */
  readonly offset: number;
  /** Length in bytes. */
  readonly length: number;
}

/** The program has no usable interpreter slot, or the path does not fit into it. */
export class InterpreterError extends Error {
  override readonly name = "InterpreterError";
}

/**
 * Finds the interpreter slot of a built plugin without reading the whole file (it has 90 MB).
 *
 * @param readAt Reads parts of the program's file.
 * @returns Offset and length of the slot.
 * @throws {InterpreterError} when the file is not a 64-bit little-endian ELF program or was not built
 * with a slot.
 */
export function findInterpreterSlot(readAt: ReadAt): InterpreterSlot {
  const header = programHeaders(readAt).find(({ type }) => type === PT_INTERP);
  if (header === undefined) {
    throw new InterpreterError(
      "Cannot find the interpreter of the program: it is linked statically",
    );
  }
  const { offset, filesz: length } = header;
  const marker = interpreterMarker();
  const before = offset < marker.length
    ? new Uint8Array()
    : readAt(offset - marker.length, marker.length);
  if (length !== interpreterSlotSize || !equal(before, marker)) {
    throw new InterpreterError(
      "Cannot set the interpreter of the program: it was not built with an interpreter slot; " +
        "build it with 'deno task build'",
    );
  }
  return { offset, length };
}

function programHeaders(readAt: ReadAt): ReturnType<typeof readProgramHeaders> {
  try {
    return readProgramHeaders(readAt);
  } catch (error) {
    if (!(error instanceof ElfError)) throw error;
    throw new InterpreterError(`Cannot find the interpreter of the program: ${error.message}`, {
      cause: error,
    });
  }
}

/**
 * Returns what to write into the slot for an interpreter path.
 *
 * @param path Absolute path of the dynamic loader on the host where the plugin will run.
 * @returns The path in UTF-8, padded with NUL to {@linkcode interpreterSlotSize} bytes.
 * @throws {InterpreterError} when the path is not absolute, holds a NUL or is too long.
 */
export function interpreterSlotContent(path: string): Uint8Array {
  if (!path.startsWith("/") || path.includes("\0")) {
    throw new InterpreterError(
      `Cannot set the interpreter ${JSON.stringify(path)}: expected an absolute path without NUL`,
    );
  }
  const bytes = new TextEncoder().encode(path);
  if (bytes.length >= interpreterSlotSize) {
    throw new InterpreterError(
      `Cannot set the interpreter ${JSON.stringify(path)}: it has ${bytes.length} bytes, ` +
        `at most ${interpreterSlotSize - 1} fit; choose a shorter bin dir`,
    );
  }
  const content = new Uint8Array(interpreterSlotSize);
  content.set(bytes);
  return content;
}

/**
 * Returns a copy of a built plugin with another interpreter path.
 *
 * @param program The whole program.
 * @param path Absolute path of the dynamic loader on the host, at most 255 bytes of UTF-8.
 * @returns A program of the same length.
 * @throws {InterpreterError} as {@linkcode findInterpreterSlot} and
 * {@linkcode interpreterSlotContent} do.
 */
export function setInterpreter(program: Uint8Array, path: string): Uint8Array {
  const content = interpreterSlotContent(path);
  const slot = findInterpreterSlot(readerOf(program));
  const copy = program.slice();
  copy.set(content, slot.offset);
  return copy;
}

/**
 * Tells which interpreter a built plugin names.
 *
 * @param readAt Reads parts of the program's file.
 * @returns The path, up to the first NUL.
 * @throws {InterpreterError} as {@linkcode findInterpreterSlot} does.
 */
export function interpreterOf(readAt: ReadAt): string {
  const slot = findInterpreterSlot(readAt);
  const bytes = readAt(slot.offset, slot.length);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.subarray(0, end < 0 ? bytes.length : end));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
