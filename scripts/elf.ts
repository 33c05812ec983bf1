/**
 * A small ELF editor for the runtime base binary: gives it an interpreter path that can be changed
 * in place and a library folder beside the program, so that the plugin can bring its own C library
 * to hosts that have none.
 *
 * Layout and names are those of the System V ABI (gABI, chapters "Object Files" and "Program
 * Loading") and of elf.h.
 */
import {
  ElfError,
  type ElfHeader,
  type ProgramHeader,
  programHeaderSize,
  PT_INTERP,
  readElfHeader,
  readerOf,
  readProgramHeaders,
} from "../installer/host/elf_header.ts";
import { interpreterMarker, interpreterSlotSize } from "../installer/host/interpreter.ts";
import { workingDirectoryStub } from "./elf_entry.ts";

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_NOTE = 4;
const PF_X = 1;
const PF_R = 4;

const DT_NULL = 0;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_STRSZ = 10;
const DT_RPATH = 15;
const DT_RUNPATH = 29;
const DT_FLAGS = 30;
const DT_FLAGS_1 = 0x6ffffffb;
const DF_BIND_NOW = 8;
const DF_1_NOW = 1;

interface DynamicEntry {
  tag: number;
  value: number;
}

/** What a program asks of the host that starts it. */
export interface ElfDescription {
  /** `x86_64` or `aarch64`. */
  readonly machine: string;
  /** Path of the dynamic loader. */
  readonly interpreter: string;
  /** Names of the shared libraries, in order. */
  readonly needed: readonly string[];
  /** Library search path inside the program, when it has one. */
  readonly libraryPath?: string;
}

/**
 * Reads what a dynamically linked program needs.
 *
 * @param program Bytes of a 64-bit little-endian ELF program.
 * @returns Machine, interpreter, libraries and library path.
 * @throws {ElfError} when it is not such a program.
 */
export function describeElf(program: Uint8Array): ElfDescription {
  const file = new ElfFile(program);
  const path = file.dynamic.find((e) => e.tag === DT_RPATH || e.tag === DT_RUNPATH);
  return {
    machine: file.machine,
    interpreter: file.text(file.header(PT_INTERP, "PT_INTERP").offset),
    needed: file.dynamic.filter((e) => e.tag === DT_NEEDED).map((e) => file.string(e.value)),
    ...(path === undefined ? {} : { libraryPath: file.string(path.value) }),
  };
}

/**
 * Returns a copy of a program that looks for its libraries in `libraryPath` first and whose
 * interpreter path lies in a slot of its own ({@linkcode interpreterSlotSize} bytes, preceded by
 * {@linkcode interpreterMarker}); the interpreter stays the same until somebody overwrites the slot.
 *
 * One read-only segment is added at the end of the file, holding marker, slot, a copy of the dynamic
 * string table with the library path after it, and where the program begins now: a few instructions
 * for a working directory that is gone ({@linkcode workingDirectoryStub}). Its program header takes the place of a
 * `PT_NOTE`, since the table cannot grow; notes (build id) play no part at run time. The segment has
 * no zero-filled part, which older kernels accept only in the last writable segment.
 *
 * The path goes into `DT_RPATH`, not `DT_RUNPATH`: only the former comes before `LD_LIBRARY_PATH`,
 * and a runtime's environment must not mix the host's C library with our loader. It takes a spare
 * entry of the dynamic section, or else `DT_FLAGS` when that says no more than `DT_FLAGS_1` does.
 *
 * @param program Bytes of a program with nothing appended after its ELF data.
 * @param libraryPath Search path, for example `$ORIGIN/kuma-cni.d`.
 * @returns The edited program.
 * @throws {ElfError} when the program has no room for the changes.
 */
export function addLibraryPath(program: Uint8Array, libraryPath: string): Uint8Array<ArrayBuffer> {
  const file = new ElfFile(program);
  const stringTable = file.dynamicValue(DT_STRTAB, "DT_STRTAB");
  const stringTableSize = file.dynamicValue(DT_STRSZ, "DT_STRSZ");
  const stringTableOffset = file.offsetOf(stringTable);
  const oldInterpreter = file.header(PT_INTERP, "PT_INTERP");
  const interpreter = file.text(oldInterpreter.offset);
  const note = file.headers.findIndex((h) => h.type === PT_NOTE);
  if (note < 0) {
    throw new ElfError("Cannot add a segment: the program has no PT_NOTE header to give up");
  }

  const marker = interpreterMarker();
  const encoder = new TextEncoder();
  const strings = concat([
    program.subarray(stringTableOffset, stringTableOffset + stringTableSize),
    encoder.encode(libraryPath + "\0"),
  ]);

  const loads = file.headers.filter((h) => h.type === PT_LOAD);
  const pageSize = Math.max(...loads.map((h) => h.align));
  const offset = alignUp(program.length, pageSize);
  const vaddr = alignUp(Math.max(...loads.map((h) => h.vaddr + h.memsz)), pageSize);
  const slotAt = marker.length;
  const stringsAt = slotAt + interpreterSlotSize;
  const stubAt = stringsAt + strings.length;
  const stub = workingDirectoryStub(file.machine, vaddr + stubAt, file.entry);
  const segment = concat([
    marker,
    padded(encoder.encode(interpreter), interpreterSlotSize),
    strings,
    stub ?? new Uint8Array(),
  ]);

  const headers = file.headers.filter((_, i) => i !== note).map((h) =>
    h.type !== PT_INTERP ? h : {
      ...h,
      offset: offset + slotAt,
      vaddr: vaddr + slotAt,
      filesz: interpreterSlotSize,
      memsz: interpreterSlotSize,
    }
  );
  // The gABI wants PT_LOAD headers in ascending order of address: ours is the highest.
  headers.splice(headers.findLastIndex((h) => h.type === PT_LOAD) + 1, 0, {
    type: PT_LOAD,
    flags: stub === undefined ? PF_R : PF_R | PF_X,
    offset,
    vaddr,
    filesz: segment.length,
    memsz: segment.length,
    align: pageSize,
  });

  const edited = new Uint8Array(offset + segment.length);
  edited.set(program);
  edited.set(segment, offset);
  const out = new ElfFile(edited);
  out.writeHeaders(headers);
  out.writeDynamic(
    withLibraryPath(file.dynamic, stringTableSize).map((e) => {
      if (e.tag === DT_STRTAB) return { tag: e.tag, value: vaddr + stringsAt };
      if (e.tag === DT_STRSZ) return { tag: e.tag, value: strings.length };
      return e;
    }),
  );
  // Section headers play no part at run time; they are kept true for readelf and debuggers.
  out.moveSection(oldInterpreter.vaddr, vaddr + slotAt, offset + slotAt, interpreterSlotSize);
  out.moveSection(
    stringTable,
    vaddr + stringsAt,
    offset + stringsAt,
    strings.length,
  );
  if (stub !== undefined) out.writeEntry(vaddr + stubAt);
  return edited;
}

/** Puts `DT_RPATH` into the dynamic section without making it longer. */
function withLibraryPath(
  dynamic: readonly DynamicEntry[],
  stringOffset: number,
): readonly DynamicEntry[] {
  if (dynamic.some((e) => e.tag === DT_RPATH || e.tag === DT_RUNPATH)) {
    throw new ElfError("Cannot add a library path: the program already has one");
  }
  const entry = { tag: DT_RPATH, value: stringOffset };
  const firstNull = dynamic.findIndex((e) => e.tag === DT_NULL);
  if (firstNull >= 0 && dynamic[firstNull + 1]?.tag === DT_NULL) {
    return dynamic.with(firstNull, entry);
  }
  const flags = dynamic.findIndex((e) => e.tag === DT_FLAGS && e.value === DF_BIND_NOW);
  const flags1 = dynamic.find((e) => e.tag === DT_FLAGS_1);
  if (flags >= 0 && flags1 !== undefined && (flags1.value & DF_1_NOW) !== 0) {
    return dynamic.with(flags, entry);
  }
  throw new ElfError(
    "Cannot add a library path: the dynamic section has neither a spare entry nor a redundant " +
      "DT_FLAGS",
  );
}

/** The parts of an ELF program that this editor reads and writes. */
class ElfFile {
  readonly headers: readonly ProgramHeader[];
  readonly dynamic: readonly DynamicEntry[];
  readonly #header: ElfHeader;
  readonly #view: DataView;

  constructor(readonly bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#header = readElfHeader(readerOf(bytes));
    this.headers = readProgramHeaders(readerOf(bytes));
    const section = this.header(PT_DYNAMIC, "PT_DYNAMIC");
    this.dynamic = Array.from({ length: Math.floor(section.filesz / 16) }, (_, i) => ({
      tag: this.#u64(section.offset + i * 16),
      value: this.#u64(section.offset + i * 16 + 8),
    }));
  }

  header(type: number, name: string): ProgramHeader {
    const found = this.headers.find((h) => h.type === type);
    if (found === undefined) throw new ElfError(`Cannot read the program: it has no ${name}`);
    return found;
  }

  dynamicValue(tag: number, name: string): number {
    const found = this.dynamic.find((e) => e.tag === tag);
    if (found === undefined) throw new ElfError(`Cannot read the program: it has no ${name}`);
    return found.value;
  }

  /** File offset of an address. */
  offsetOf(vaddr: number): number {
    const load = this.headers.find((h) =>
      h.type === PT_LOAD && vaddr >= h.vaddr && vaddr < h.vaddr + h.filesz
    );
    if (load === undefined) {
      throw new ElfError(`Cannot read the program: address 0x${vaddr.toString(16)} is not in it`);
    }
    return vaddr - load.vaddr + load.offset;
  }

  /** Text at a file offset, up to the first NUL. */
  text(offset: number): string {
    const end = this.bytes.indexOf(0, offset);
    return new TextDecoder().decode(this.bytes.subarray(offset, end < 0 ? undefined : end));
  }

  /** Text in the dynamic string table. */
  string(index: number): string {
    return this.text(this.offsetOf(this.dynamicValue(DT_STRTAB, "DT_STRTAB")) + index);
  }

  get machine(): string {
    return this.#header.machine;
  }

  /** Address of the first instruction. */
  get entry(): number {
    return this.#header.entry;
  }

  writeEntry(vaddr: number): void {
    this.#view.setBigUint64(24, BigInt(vaddr), true);
  }

  writeHeaders(headers: readonly ProgramHeader[]): void {
    headers.forEach((h, i) => {
      const at = this.#header.programHeadersAt + i * programHeaderSize;
      this.#view.setUint32(at, h.type, true);
      this.#view.setUint32(at + 4, h.flags, true);
      [h.offset, h.vaddr, h.vaddr, h.filesz, h.memsz, h.align].forEach((value, field) =>
        this.#view.setBigUint64(at + 8 + field * 8, BigInt(value), true)
      );
    });
  }

  writeDynamic(entries: readonly DynamicEntry[]): void {
    const start = this.header(PT_DYNAMIC, "PT_DYNAMIC").offset;
    entries.forEach((e, i) => {
      this.#view.setBigUint64(start + i * 16, BigInt(e.tag), true);
      this.#view.setBigUint64(start + i * 16 + 8, BigInt(e.value), true);
    });
  }

  /** Tells the section that starts at an address where its bytes are now. */
  moveSection(vaddr: number, newVaddr: number, newOffset: number, size: number): void {
    const { sectionsAt, sectionCount } = this.#header;
    for (let i = 0; i < sectionCount; i++) {
      const at = sectionsAt + i * 64;
      if (this.#u64(at + 16) !== vaddr) continue;
      this.#view.setBigUint64(at + 16, BigInt(newVaddr), true);
      this.#view.setBigUint64(at + 24, BigInt(newOffset), true);
      this.#view.setBigUint64(at + 32, BigInt(size), true);
      return;
    }
  }

  #u64(at: number): number {
    return Number(this.#view.getBigUint64(at, true));
  }
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

function padded(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length >= length) {
    throw new ElfError(`Cannot keep the interpreter path: it has ${bytes.length} bytes`);
  }
  const out = new Uint8Array(length);
  out.set(bytes);
  return out;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
