/** Maps of the kernel's BPF machine. Needs what `bpf.ts` needs. */
import { Attributes, bpf, Command, infoOf, making, nameIn } from "./bpf_call.ts";
import { unlessError } from "./errno.ts";
import { FileDescriptor } from "./libc.ts";

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

/** Tells the name of a map. */
export function bpfMapName(map: FileDescriptor): string {
  return nameIn(infoOf("BPF map", map), 24);
}

/** Opens a map by its number. */
export function bpfMapById(id: number): FileDescriptor {
  const attributes = new Attributes().u32(0, id);
  return new FileDescriptor(bpf(`Cannot open BPF map ${id}`, Command.mapById, attributes));
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

/** Reads an entry of a map; `undefined` when there is none. */
export function lookUpBpfMap(
  map: FileDescriptor,
  key: Uint8Array<ArrayBuffer>,
  valueBytes: number,
): Uint8Array<ArrayBuffer> | undefined {
  const value = new Uint8Array(valueBytes);
  const attributes = new Attributes().u32(0, map.number).pointer(8, key).pointer(16, value);
  return unlessError("ENOENT", () => {
    bpf("Cannot read an entry of a BPF map", Command.mapLookup, attributes);
    return value;
  });
}

/** Removes an entry of a map; not there is fine. */
export function removeFromBpfMap(map: FileDescriptor, key: Uint8Array<ArrayBuffer>): void {
  const attributes = new Attributes().u32(0, map.number).pointer(8, key);
  unlessError(
    "ENOENT",
    () => bpf("Cannot remove an entry of a BPF map", Command.mapDelete, attributes),
  );
}

/**
 * Lists the keys of a map.
 *
 * @param most Keys after which it ends: the kernel begins again when the last one is removed meanwhile.
 */
export function bpfMapKeys(
  map: FileDescriptor,
  keyBytes: number,
  most = 65_536,
): Uint8Array<ArrayBuffer>[] {
  const keys: Uint8Array<ArrayBuffer>[] = [];
  while (keys.length < most) {
    const next = new Uint8Array(keyBytes);
    const attributes = new Attributes().u32(0, map.number).pointer(16, next);
    const last = keys.at(-1);
    if (last !== undefined) attributes.pointer(8, last);
    const listed = unlessError(
      "ENOENT",
      () => bpf("Cannot list the keys of a BPF map", Command.mapNextKey, attributes),
    );
    if (listed === undefined) return keys;
    keys.push(next);
  }
  return keys;
}
