/** Makes and opens a pod's maps. */
import {
  bpfMapById,
  type BpfMapDefinition,
  bpfMapName,
  createBpfMap,
  loadBtf,
} from "../../linux/bpf_maps.ts";
import type { FileDescriptor } from "../../linux/libc.ts";
import { COUNTERS, Flight, LISTENER_SLOTS, MapName, MOST_ADDRESSES, Original } from "./layout.ts";

const Type = { hash: 1, array: 2, sockMap: 15, socketStorage: 24 } as const;
const NOT_PREALLOCATED = 1;

/** Maps by their names, open until disposed of. */
export class OpenMaps implements Disposable {
  readonly #maps = new Map<string, FileDescriptor>();
  /** Names of which more than one was opened. */
  readonly several: string[] = [];

  /** Makes new ones. */
  static create(): OpenMaps {
    using stack = new DisposableStack();
    const maps = stack.use(new OpenMaps());
    maps.makeMissing();
    stack.move();
    return maps;
  }

  /** Makes those that are not there. */
  makeMissing(): void {
    if (this.#complete) return;
    using btf = loadBtf(typesOfStorage());
    for (const definition of definitions(btf)) {
      if (!this.#maps.has(definition.name)) this.add(definition.name, createBpfMap(definition));
    }
  }

  /** Opens those of programs that are in the kernel; of several with one name the last counts. */
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
    const other = this.#maps.get(name);
    if (other !== undefined) this.several.push(name);
    other?.[Symbol.dispose]();
    this.#maps.set(name, map);
  }

  get(name: string): FileDescriptor | undefined {
    return this.#maps.get(name);
  }

  get #complete(): boolean {
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
