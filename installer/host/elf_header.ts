/**
 * Reads what stands at the begin of a program: the ELF header and the program headers, without the
 * rest of the file (the plugin has 90 MB).
 *
 * Layout and names: System V ABI, gABI, chapters "Object Files" and "Program Loading".
 */

/** The bytes are not a program that can be read; the message tells what was expected. */
export class ElfError extends Error {
  override readonly name = "ElfError";
}

/** Reads `length` bytes of a file at `offset`; fewer when the file ends. */
export type ReadAt = (offset: number, length: number) => Uint8Array;

/** Reads from a file that is in memory. */
export function readerOf(bytes: Uint8Array): ReadAt {
  return (offset, length) => bytes.subarray(offset, offset + length);
}

/** Type of the program header that names the dynamic loader. */
export const PT_INTERP = 3;

/** Bytes of one program header. */
export const programHeaderSize = 56;

/** A part of the file, and how it is put into memory. */
export interface ProgramHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly vaddr: number;
  readonly filesz: number;
  readonly memsz: number;
  readonly align: number;
}

/** The ELF header of a 64-bit little-endian file. */
export interface ElfHeader {
  /** `x86_64`, `aarch64`, or `machine` with its number. */
  readonly machine: string;
  /** Address of the first instruction. */
  readonly entry: number;
  /** Where the program headers begin in the file. */
  readonly programHeadersAt: number;
  /** Where the section headers begin in the file, and how many there are. */
  readonly sectionsAt: number;
  readonly sectionCount: number;
}

const machines: Readonly<Record<number, string>> = { 62: "x86_64", 183: "aarch64" };

/**
 * Reads the ELF header.
 *
 * @throws {ElfError} when this is not a 64-bit little-endian ELF file.
 */
export function readElfHeader(readAt: ReadAt): ElfHeader {
  return parse(readAt(0, 64));
}

/**
 * Reads the program headers.
 *
 * @throws {ElfError} as {@linkcode readElfHeader} does, and when the table is cut off.
 */
export function readProgramHeaders(readAt: ReadAt): ProgramHeader[] {
  const header = readAt(0, 64);
  const { programHeadersAt } = parse(header);
  const view = viewOf(header);
  const [size, count] = [view.getUint16(54, true), view.getUint16(56, true)];
  const table = readAt(programHeadersAt, size * count);
  if (size !== programHeaderSize || table.length < size * count) {
    throw new ElfError("Cannot read the program: its program header table is damaged");
  }
  const entries = viewOf(table);
  return Array.from({ length: count }, (_, i) => {
    const at = i * size;
    const u64 = (offset: number) => Number(entries.getBigUint64(at + offset, true));
    return {
      type: entries.getUint32(at, true),
      flags: entries.getUint32(at + 4, true),
      offset: u64(8),
      vaddr: u64(16),
      filesz: u64(32),
      memsz: u64(40),
      align: u64(48),
    };
  });
}

function parse(header: Uint8Array): ElfHeader {
  const view = viewOf(header);
  if (
    header.length < 64 || view.getUint32(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1
  ) {
    throw new ElfError("Cannot read the program: expected a 64-bit little-endian ELF file");
  }
  const machine = view.getUint16(18, true);
  return {
    machine: machines[machine] ?? `machine ${machine}`,
    entry: Number(view.getBigUint64(24, true)),
    programHeadersAt: Number(view.getBigUint64(32, true)),
    sectionsAt: Number(view.getBigUint64(40, true)),
    sectionCount: view.getUint16(60, true),
  };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
