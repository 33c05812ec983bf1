/**
 * The system call bpf(2): programs, maps, links and pins of the kernel. Nothing here decides
 * anything. Needs `--allow-ffi` and `CAP_BPF` with `CAP_NET_ADMIN`, and `CAP_SYS_ADMIN` to look things
 * up by their numbers. Facts: `linux/bpf.h`, bpf(2).
 */
import { EPERM, LinuxError } from "./errno.ts";
import { checked, cString, FileDescriptor, lastErrno, loadFunctions } from "./libc.ts";

const Command = {
  mapCreate: 0,
  mapLookup: 1,
  mapUpdate: 2,
  mapNextKey: 4,
  programLoad: 5,
  pin: 6,
  getPinned: 7,
  attach: 8,
  detach: 9,
  programById: 13,
  mapById: 14,
  info: 15,
  query: 16,
  btfLoad: 18,
  linkCreate: 28,
  linkUpdate: 29,
  linkById: 30,
  linkNextId: 31,
  linkDetach: 34,
} as const;

/** Longest part of the structures of the call that is in use. */
const ATTRIBUTE_BYTES = 128;

/** Several programs may be attached at the same place, those of the parent's run afterwards. */
const BPF_F_ALLOW_MULTI = 2;
const BPF_F_REPLACE = 4;

const RLIMIT_MEMLOCK = 8;

const symbols = {
  syscall: { parameters: ["isize", "i32", "buffer", "u32"], result: "isize" },
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
} as const;

let library: Deno.DynamicLibrary<typeof symbols>["symbols"] | undefined;

function functions(): Deno.DynamicLibrary<typeof symbols>["symbols"] {
  return library ??= loadFunctions(symbols);
}

/** Number of the call, which each architecture has its own of. */
function callNumber(): bigint {
  switch (Deno.build.arch) {
    case "x86_64":
      return 321n;
    case "aarch64":
      return 280n;
  }
}

/** The structure that a command takes. */
class Attributes {
  readonly bytes = new Uint8Array(ATTRIBUTE_BYTES);
  readonly #view = new DataView(this.bytes.buffer);
  /** What the kernel reads while the call runs must not be collected. */
  readonly #kept: Uint8Array[] = [];

  u32(offset: number, value: number): this {
    this.#view.setUint32(offset, value, true);
    return this;
  }

  pointer(offset: number, target: Uint8Array<ArrayBuffer>): this {
    this.#kept.push(target);
    this.#view.setBigUint64(offset, address(target), true);
    return this;
  }

  name(offset: number, name: string): this {
    this.bytes.set(new TextEncoder().encode(name).subarray(0, 15), offset);
    return this;
  }

  read(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
}

function address(buffer: Uint8Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
}

function bpf(attempt: string, command: number, attributes: Attributes): number {
  return checked(
    attempt,
    () => Number(functions().syscall(callNumber(), command, attributes.bytes, ATTRIBUTE_BYTES)),
  );
}

/** Runs a call that makes something, once more with more locked memory where Linux < 5.11 asks for it. */
function making(attempt: string, command: number, attributes: Attributes): FileDescriptor {
  try {
    return new FileDescriptor(bpf(attempt, command, attributes));
  } catch (error) {
    if (!(error instanceof LinuxError) || error.errno !== EPERM || !unlockMemory()) throw error;
    return new FileDescriptor(bpf(attempt, command, attributes));
  }
}

let unlocked = false;

function unlockMemory(): boolean {
  if (unlocked) return false;
  unlocked = true;
  const infinity = new BigUint64Array([2n ** 64n - 1n, 2n ** 64n - 1n]);
  return functions().setrlimit(RLIMIT_MEMLOCK, new Uint8Array(infinity.buffer)) === 0;
}

/** A map to be made. */
export interface BpfMapDefinition {
  readonly name: string;
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly entries: number;
  readonly flags?: number;
  /** Types of key and value, which storage of sockets must have: a loaded description of both. */
  readonly types?: { readonly btf: FileDescriptor; readonly key: number; readonly value: number };
}

/**
 * Makes a map.
 *
 * @throws {LinuxError} when the kernel refuses, for example a type that it does not know.
 */
export function createBpfMap(map: BpfMapDefinition): FileDescriptor {
  const attributes = new Attributes().u32(0, map.type).u32(4, map.keyBytes).u32(8, map.valueBytes)
    .u32(12, map.entries).u32(16, map.flags ?? 0).name(28, map.name);
  if (map.types !== undefined) {
    attributes.u32(48, map.types.btf.number).u32(52, map.types.key).u32(56, map.types.value);
  }
  return making(`Cannot make the BPF map "${map.name}"`, Command.mapCreate, attributes);
}

/** Loads descriptions of types (BTF). */
export function loadBtf(bytes: Uint8Array<ArrayBuffer>): FileDescriptor {
  const attributes = new Attributes().pointer(0, bytes).u32(16, bytes.length);
  return making("Cannot load the types of BPF maps", Command.btfLoad, attributes);
}

/** A program to be loaded. */
export interface BpfProgramDefinition {
  readonly name: string;
  readonly type: number;
  /** Where it will be attached; 0 for types that have one place only. */
  readonly attachType: number;
  readonly instructions: Uint8Array<ArrayBuffer>;
}

const INSTRUCTION_BYTES = 8;
const LOG_BYTES = 64 * 1024;
/** Last lines of what the kernel says about a program that it refuses; the reason stands there. */
const LOG_LINES = 3;

/**
 * Loads a program: the kernel proves that it is safe, and compiles it.
 *
 * @throws {LinuxError} when it refuses, with the last words of its log.
 */
export function loadBpfProgram(program: BpfProgramDefinition): FileDescriptor {
  const attempt = `Cannot load the BPF program "${program.name}"`;
  const attributes = () =>
    new Attributes().u32(0, program.type)
      .u32(4, program.instructions.length / INSTRUCTION_BYTES)
      .pointer(8, program.instructions).pointer(16, cString("Apache-2.0"))
      .name(48, program.name).u32(68, program.attachType);
  try {
    return making(attempt, Command.programLoad, attributes());
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    // Asked for only now: the log costs more than the load.
    const log = new Uint8Array(LOG_BYTES);
    try {
      return making(
        attempt,
        Command.programLoad,
        attributes().u32(24, 1).u32(28, LOG_BYTES).pointer(32, log),
      );
    } catch (second) {
      if (!(second instanceof LinuxError)) throw second;
      throw new LinuxError(attempt, error.errno, lastLines(log));
    }
  }
}

function lastLines(log: Uint8Array): string | undefined {
  const end = log.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? log : log.subarray(0, end));
  const lines = text.trim().split("\n").filter((line) => !line.startsWith("processed "));
  return lines.join("") === "" ? undefined : lines.slice(-LOG_LINES).join("; ");
}

/**
 * Attaches a program to a cgroup, beside others or in the place of one.
 *
 * @throws {LinuxError} for example `EPERM` when a parent's program allows none below.
 */
export function attachToCgroup(
  cgroup: FileDescriptor,
  program: FileDescriptor,
  attachType: number,
  replaced?: FileDescriptor,
): void {
  const attributes = new Attributes().u32(0, cgroup.number).u32(4, program.number)
    .u32(8, attachType)
    .u32(12, BPF_F_ALLOW_MULTI | (replaced === undefined ? 0 : BPF_F_REPLACE));
  if (replaced !== undefined) attributes.u32(16, replaced.number);
  bpf(
    `Cannot attach a BPF program of kind ${attachType} to the cgroup`,
    Command.attach,
    attributes,
  );
}

/** Detaches a program from a cgroup. */
export function detachFromCgroup(
  cgroup: FileDescriptor,
  program: FileDescriptor,
  attachType: number,
): void {
  bpf(
    `Cannot detach a BPF program of kind ${attachType} from the cgroup`,
    Command.detach,
    new Attributes().u32(0, cgroup.number).u32(4, program.number).u32(8, attachType),
  );
}

/** Most programs at one place that are looked at; the kernel allows 64. */
const QUERIED = 64;

/** Lists the numbers of the programs that are attached to a cgroup, or to a network namespace. */
export function attachedPrograms(target: FileDescriptor, attachType: number): number[] {
  const ids = new Uint32Array(QUERIED);
  const attributes = new Attributes().u32(0, target.number).u32(4, attachType)
    .pointer(16, new Uint8Array(ids.buffer)).u32(24, QUERIED);
  bpf(`Cannot list the BPF programs of kind ${attachType}`, Command.query, attributes);
  return Array.from(ids.subarray(0, attributes.read(24)));
}

/** What the kernel tells about a program. */
export interface BpfProgramInfo {
  readonly id: number;
  readonly name: string;
  /** Hash of its instructions, hexadecimal. */
  readonly tag: string;
  readonly mapIds: readonly number[];
  /** Counted where `kernel.bpf_stats_enabled` is set. */
  readonly runs: bigint;
  readonly nanoseconds: bigint;
  readonly jitedBytes: number;
}

const INFO_BYTES = 256;
const MOST_MAPS = 16;

function infoOf(
  what: string,
  object: FileDescriptor,
  prepare: (view: DataView<ArrayBuffer>) => void = () => {},
): DataView<ArrayBuffer> {
  const info = new Uint8Array(INFO_BYTES);
  const view = new DataView(info.buffer);
  prepare(view);
  const attributes = new Attributes().u32(0, object.number).u32(4, INFO_BYTES).pointer(8, info);
  bpf(`Cannot ask what a ${what} is`, Command.info, attributes);
  return view;
}

function nameIn(view: DataView<ArrayBuffer>, offset: number): string {
  const bytes = new Uint8Array(view.buffer, offset, 16);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Tells what a program is. */
export function bpfProgramInfo(program: FileDescriptor): BpfProgramInfo {
  const mapIds = new Uint32Array(MOST_MAPS);
  const view = infoOf("BPF program", program, (view) => {
    view.setUint32(52, MOST_MAPS, true);
    view.setBigUint64(56, address(new Uint8Array(mapIds.buffer)), true);
  });
  const tag = new Uint8Array(view.buffer, 8, 8);
  return {
    id: view.getUint32(4, true),
    tag: Array.from(tag, (byte) => byte.toString(16).padStart(2, "0")).join(""),
    jitedBytes: view.getUint32(16, true),
    name: nameIn(view, 64),
    mapIds: Array.from(mapIds.subarray(0, Math.min(MOST_MAPS, view.getUint32(52, true)))),
    nanoseconds: view.getBigUint64(192, true),
    runs: view.getBigUint64(200, true),
  };
}

/** Tells the name of a map. */
export function bpfMapInfo(map: FileDescriptor): { readonly id: number; readonly name: string } {
  const view = infoOf("BPF map", map);
  return { id: view.getUint32(4, true), name: nameIn(view, 24) };
}

/** What the kernel tells about a link. */
export interface BpfLinkInfo {
  readonly id: number;
  readonly type: number;
  readonly programId: number;
  /** Of a link to a network namespace: the namespace's inode, 0 when it is gone. */
  readonly netnsInode: number;
}

/** Type of links to network namespaces. */
export const BPF_LINK_TYPE_NETNS = 5;

/** Tells what a link is. */
export function bpfLinkInfo(link: FileDescriptor): BpfLinkInfo {
  const view = infoOf("BPF link", link);
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    programId: view.getUint32(8, true),
    netnsInode: view.getUint32(16, true),
  };
}

/** Opens a program by its number. */
export function bpfProgramById(id: number): FileDescriptor {
  const attributes = new Attributes().u32(0, id);
  return new FileDescriptor(bpf(`Cannot open BPF program ${id}`, Command.programById, attributes));
}

/** Opens a map by its number. */
export function bpfMapById(id: number): FileDescriptor {
  const attributes = new Attributes().u32(0, id);
  return new FileDescriptor(bpf(`Cannot open BPF map ${id}`, Command.mapById, attributes));
}

/** Opens a link by its number. */
export function bpfLinkById(id: number): FileDescriptor {
  const attributes = new Attributes().u32(0, id);
  return new FileDescriptor(bpf(`Cannot open BPF link ${id}`, Command.linkById, attributes));
}

/** Returns the number of the link after this one; `undefined` behind the last. */
export function nextBpfLink(after: number): number | undefined {
  const attributes = new Attributes().u32(0, after);
  const result = Number(
    functions().syscall(callNumber(), Command.linkNextId, attributes.bytes, ATTRIBUTE_BYTES),
  );
  if (result !== -1) return attributes.read(4);
  const errno = lastErrno();
  if (errno === 2) return undefined;
  throw new LinuxError("Cannot list the BPF links", errno);
}

/** Attaches a program to a network namespace by a link, which is to be pinned. */
export function linkToNamespace(
  program: FileDescriptor,
  namespace: FileDescriptor,
  attachType: number,
): FileDescriptor {
  return new FileDescriptor(
    bpf(
      "Cannot attach a BPF program to the network namespace",
      Command.linkCreate,
      new Attributes().u32(0, program.number).u32(4, namespace.number).u32(8, attachType),
    ),
  );
}

/** Puts another program behind a link, at once. */
export function updateLink(link: FileDescriptor, program: FileDescriptor): void {
  bpf(
    "Cannot change the program of a BPF link",
    Command.linkUpdate,
    new Attributes().u32(0, link.number).u32(4, program.number),
  );
}

/** Detaches a link's program, whoever holds the link. */
export function detachLink(link: FileDescriptor): void {
  bpf("Cannot detach a BPF link", Command.linkDetach, new Attributes().u32(0, link.number));
}

/** Pins a program, map or link at a path in a BPF file system. */
export function pinBpfObject(object: FileDescriptor, path: string): void {
  const attributes = new Attributes().pointer(0, cString(path)).u32(8, object.number);
  bpf(`Cannot pin a BPF object at "${path}"`, Command.pin, attributes);
}

/** Opens what is pinned at a path. */
export function pinnedBpfObject(path: string): FileDescriptor {
  const attributes = new Attributes().pointer(0, cString(path));
  return new FileDescriptor(
    bpf(`Cannot open the BPF pin "${path}"`, Command.getPinned, attributes),
  );
}

/** Writes an entry of a map. */
export function updateBpfMap(
  map: FileDescriptor,
  key: Uint8Array<ArrayBuffer>,
  value: Uint8Array<ArrayBuffer>,
): void {
  bpf(
    "Cannot write an entry of a BPF map",
    Command.mapUpdate,
    new Attributes().u32(0, map.number).pointer(8, key).pointer(16, value),
  );
}

/** Reads an entry of a map. */
export function lookUpBpfMap(
  map: FileDescriptor,
  key: Uint8Array<ArrayBuffer>,
  valueBytes: number,
): Uint8Array<ArrayBuffer> {
  const value = new Uint8Array(valueBytes);
  bpf(
    "Cannot read an entry of a BPF map",
    Command.mapLookup,
    new Attributes().u32(0, map.number).pointer(8, key).pointer(16, value),
  );
  return value;
}

/** Lists the keys of a map. */
export function bpfMapKeys(map: FileDescriptor, keyBytes: number): Uint8Array<ArrayBuffer>[] {
  const keys: Uint8Array<ArrayBuffer>[] = [];
  for (;;) {
    const next = new Uint8Array(keyBytes);
    const attributes = new Attributes().u32(0, map.number).pointer(16, next);
    const last = keys.at(-1);
    if (last !== undefined) attributes.pointer(8, last);
    try {
      bpf("Cannot list the keys of a BPF map", Command.mapNextKey, attributes);
    } catch (error) {
      if (error instanceof LinuxError && error.code === "ENOENT") return keys;
      throw error;
    }
    keys.push(next);
  }
}
