/** Makes and fills a pod's maps. */
import { type InterfaceAddress, listAddresses } from "../../linux/addresses.ts";
import {
  bpfMapById,
  type BpfMapDefinition,
  bpfMapName,
  createBpfMap,
  loadBtf,
  lookUpBpfMap,
  updateBpfMap,
} from "../../linux/bpf_maps.ts";
import type { FileDescriptor } from "../../linux/libc.ts";
import { addressBytes } from "../../ip/address.ts";
import {
  COUNTERS,
  Flight,
  LISTENER_SLOTS,
  MapName,
  MOST_ADDRESSES,
  Original,
  SpecialKey,
} from "./layout.ts";

const Type = { hash: 1, array: 2, sockMap: 15, socketStorage: 24 } as const;
const NOT_PREALLOCATED = 1;

/** Maps by their names, open until disposed of. */
export class OpenMaps implements Disposable {
  readonly #maps = new Map<string, FileDescriptor>();

  /** Makes new ones. */
  static create(): OpenMaps {
    using stack = new DisposableStack();
    const maps = stack.use(new OpenMaps());
    using btf = loadBtf(typesOfStorage());
    for (const definition of definitions(btf)) maps.add(definition.name, createBpfMap(definition));
    stack.move();
    return maps;
  }

  /** Opens those of a program that is in the kernel. */
  static open(ids: Iterable<number>): OpenMaps {
    using stack = new DisposableStack();
    const maps = stack.use(new OpenMaps());
    for (const id of ids) {
      const map = bpfMapById(id);
      maps.add(bpfMapName(map), map);
    }
    stack.move();
    return maps;
  }

  add(name: string, map: FileDescriptor): void {
    this.#maps.get(name)?.[Symbol.dispose]();
    this.#maps.set(name, map);
  }

  get(name: string): FileDescriptor | undefined {
    return this.#maps.get(name);
  }

  /** Whether no map of a pod is missing. */
  get complete(): boolean {
    return Object.values(MapName).every((name) => this.#maps.has(name));
  }

  /** What an assembler needs. */
  get descriptors(): ReadonlyMap<string, number> {
    return new Map([...this.#maps].map(([name, { number }]) => [name, number]));
  }

  [Symbol.dispose](): void {
    for (const map of this.#maps.values()) map[Symbol.dispose]();
    this.#maps.clear();
  }
}

function definitions(btf: FileDescriptor): BpfMapDefinition[] {
  return [
    {
      ...{ name: MapName.original, type: Type.socketStorage, keyBytes: 4, entries: 0 },
      ...{ valueBytes: Original.bytes, flags: NOT_PREALLOCATED, types: { btf, key: 1, value: 2 } },
    },
    {
      ...{ name: MapName.inFlight, type: Type.hash, keyBytes: Flight.bytes },
      ...{ valueBytes: Original.bytes, entries: Flight.entries, flags: NOT_PREALLOCATED },
    },
    {
      ...{ name: MapName.listeners, type: Type.sockMap, keyBytes: 4, valueBytes: 4 },
      entries: 2 * LISTENER_SLOTS,
    },
    {
      ...{ name: MapName.addresses, type: Type.hash, keyBytes: 16, valueBytes: 16 },
      ...{ entries: MOST_ADDRESSES, flags: NOT_PREALLOCATED },
    },
    {
      ...{ name: MapName.counters, type: Type.array, keyBytes: 4 },
      ...{ valueBytes: 8 * COUNTERS.length, entries: 1 },
    },
  ];
}

/** Types of the storage's key and value as BTF: `int` and `int[6]`. Facts: `linux/btf.h`. */
function typesOfStorage(): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode("\0int\0");
  const [kindInt, kindArray, signed] = [1 << 24, 3 << 24, 1 << 24];
  const types = [
    ...[1, kindInt, 4, signed | 32],
    ...[0, kindArray, 0, 1, 1, Original.bytes / 4],
  ];
  const headerBytes = 24;
  const bytes = new Uint8Array(headerBytes + 4 * types.length + text.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0xeb9f, true);
  view.setUint8(2, 1);
  const header = [headerBytes, 0, 4 * types.length, 4 * types.length, text.length];
  for (const [index, word] of [...header, ...types].entries()) {
    view.setUint32(4 + 4 * index, word, true);
  }
  bytes.set(text, headerBytes + 4 * types.length);
  return bytes;
}

/** Entries of the map of addresses, in the order in which they are written. */
export type AddressEntry = readonly [key: Uint8Array<ArrayBuffer>, value: Uint8Array<ArrayBuffer>];

/**
 * What the programs must know about the network namespace that the calling thread is in.
 *
 * @param inode of the namespace
 * @throws {RangeError} when there are too many addresses.
 */
export function addressEntries(
  inode: number,
  addresses: readonly InterfaceAddress[] = listAddresses(),
): AddressEntry[] {
  const entries: AddressEntry[] = [[SpecialKey.namespace, inodeValue(inode)]];
  for (const family of ["ipv4", "ipv6"] as const) {
    const own = addresses.filter((one) => one.family === family)
      .map(({ address }) => mapped(addressBytes(address)));
    const source = own.find(isGlobal);
    if (source !== undefined) {
      entries.push([family === "ipv4" ? SpecialKey.source4 : SpecialKey.source6, source]);
    }
    for (const address of own) entries.push([address, new Uint8Array(16)]);
  }
  if (entries.length > MOST_ADDRESSES) {
    throw new RangeError(
      `The pod has ${entries.length} addresses, of which ${MOST_ADDRESSES} can be kept`,
    );
  }
  return entries;
}

function mapped(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (bytes.length === 16) return new Uint8Array(bytes);
  const key = SpecialKey.source4.slice();
  key.set(bytes, 12);
  return key;
}

/** Neither loopback nor link-local: an address that others can answer to. */
function isGlobal(bytes: Uint8Array): boolean {
  const [first, second] = bytes;
  if (first === 0xfe && (second! & 0xc0) === 0x80) return false;
  if (bytes.subarray(0, 10).some((byte) => byte !== 0)) return true;
  if (bytes[10] !== 0xff || bytes[11] !== 0xff) return false;
  return bytes[12] !== 127 && !(bytes[12] === 169 && bytes[13] === 254);
}

function inodeValue(inode: number): Uint8Array<ArrayBuffer> {
  const value = new Uint8Array(16);
  new DataView(value.buffer).setUint32(0, inode, true);
  return value;
}

/** The namespace that maps are for; `undefined` when they do not say. */
export function namespaceOf(maps: OpenMaps): number | undefined {
  const addresses = maps.get(MapName.addresses);
  if (addresses === undefined) return undefined;
  const value = lookUpBpfMap(addresses, SpecialKey.namespace, 16);
  return value && new DataView(value.buffer).getUint32(0, true);
}

/** Writes entries beside those that are there. */
export function writeAddresses(maps: OpenMaps, entries: readonly AddressEntry[]): void {
  const addresses = maps.get(MapName.addresses)!;
  for (const [key, value] of entries) updateBpfMap(addresses, key, value);
}

/** Tells which entries are not there. */
export function missingAddresses(maps: OpenMaps, entries: readonly AddressEntry[]): AddressEntry[] {
  const addresses = maps.get(MapName.addresses)!;
  return entries.filter(([key, value]) => {
    const found = lookUpBpfMap(addresses, key, 16);
    return found === undefined || !equal(found, value);
  });
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, index) => byte === b[index]);
}
