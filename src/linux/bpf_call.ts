/**
 * The system call bpf(2) and the structures that it takes; `bpf.ts` has programs and links,
 * `bpf_maps.ts` maps. Facts: `linux/bpf.h`, bpf(2).
 */
import { EPERM, LinuxError } from "./errno.ts";
import { addressOf, checked, FileDescriptor, loadFunctions } from "./libc.ts";

/** Commands of the call. */
export const Command = {
  mapCreate: 0,
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
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
export class Attributes {
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
    this.#view.setBigUint64(offset, addressOf(target), true);
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

/**
 * Makes the call.
 *
 * @throws {LinuxError} when the kernel refuses.
 */
export function bpf(attempt: string, command: number, attributes: Attributes): number {
  return checked(
    attempt,
    () => Number(functions().syscall(callNumber(), command, attributes.bytes, ATTRIBUTE_BYTES)),
  );
}

/** Runs a call that makes something, once more with more locked memory where Linux < 5.11 asks for it. */
export function making(attempt: string, command: number, attributes: Attributes): FileDescriptor {
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

const INFO_BYTES = 256;

/** Asks what an object is: the kernel's structure for its kind. */
export function infoOf(
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

/** Reads a name in such a structure. */
export function nameIn(view: DataView<ArrayBuffer>, offset: number): string {
  const bytes = new Uint8Array(view.buffer, offset, 16);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}
