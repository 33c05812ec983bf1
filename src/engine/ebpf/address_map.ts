/** What a pod's map of addresses holds: what it should, and what it does. */
import { addressBytes, formatAddress } from "../../ip/address.ts";
import { type InterfaceAddress, listAddresses } from "../../linux/addresses.ts";
import { bpfMapKeys, lookUpBpfMap, removeFromBpfMap, updateBpfMap } from "../../linux/bpf_maps.ts";
import type { Difference } from "../engine.ts";
import { PROGRAMS_NAMESPACE } from "./interface.ts";
import { MapName, MOST_ADDRESSES, SpecialKey } from "./layout.ts";
import type { OpenMaps } from "./maps.ts";

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

/** Makes these the entries of the map: new ones before those that are over go. */
export function writeAddresses(maps: OpenMaps, entries: readonly AddressEntry[]): void {
  const addresses = maps.get(MapName.addresses)!;
  for (const [key, value] of entries) updateBpfMap(addresses, key, value);
  for (const key of bpfMapKeys(addresses, 16, MOST_ADDRESSES)) {
    if (!entries.some(([wanted]) => equal(wanted, key))) removeFromBpfMap(addresses, key);
  }
}

/**
 * Compares the map with the addresses that the namespace has now. An address of the link alone may
 * come after the programs, since the kernel makes it when the link is up, and nobody calls it.
 */
export function addressDifferences(
  maps: OpenMaps,
  entries: readonly AddressEntry[],
): Difference[] {
  const addresses = maps.get(MapName.addresses);
  if (addresses === undefined) {
    return [{ kind: "missing", object: `BPF map ${MapName.addresses}` }];
  }
  const [expected, actual] = [namespaceIn(entries), namespaceOf(maps)];
  if (actual !== undefined && expected !== actual) {
    // Of another sandbox, whose addresses are not to be compared.
    const object = PROGRAMS_NAMESPACE;
    return [{ kind: "changed", object, expected: `${expected}`, actual: `${actual}` }];
  }
  const differences: Difference[] = [];
  const there = bpfMapKeys(addresses, 16, MOST_ADDRESSES);
  for (const [key, value] of entries) {
    const found = lookUpBpfMap(addresses, key, 16);
    const object = `${nameOf(key)} in BPF map ${MapName.addresses}`;
    if (found === undefined) {
      if (!isOfLink(key)) differences.push({ kind: "missing", object });
    } else if (!equal(found, value) && !isAnotherOwn(key, found, entries)) {
      const [expected, actual] = [value, found].map(addressText) as [string, string];
      differences.push({ kind: "changed", object, expected, actual });
    }
  }
  for (const key of there) {
    if (entries.some(([wanted]) => equal(wanted, key))) continue;
    const object = `${nameOf(key)} in BPF map ${MapName.addresses}`;
    differences.push({ kind: "unexpected", object });
  }
  return differences;
}

/** Of several addresses any may be the one that connections come from: the kernel's order changes. */
function isAnotherOwn(
  key: Uint8Array,
  found: Uint8Array,
  entries: readonly AddressEntry[],
): boolean {
  const isSource = equal(key, SpecialKey.source4) || equal(key, SpecialKey.source6);
  return isSource && isGlobal(found) && entries.some(([own]) => equal(own, found));
}

function isOfLink(key: Uint8Array): boolean {
  return key[0] === 0xfe && (key[1]! & 0xc0) === 0x80;
}

function nameOf(key: Uint8Array): string {
  if (equal(key, SpecialKey.namespace)) return "network namespace";
  if (equal(key, SpecialKey.source4)) return "IPv4 source";
  if (equal(key, SpecialKey.source6)) return "IPv6 source";
  return `address ${addressText(key)}`;
}

function namespaceIn(entries: readonly AddressEntry[]): number | undefined {
  const value = entries.find(([key]) => equal(key, SpecialKey.namespace))?.[1];
  return value && new DataView(value.buffer).getUint32(0, true);
}

function addressText(bytes: Uint8Array): string {
  const isMapped = equal(bytes.subarray(0, 12), SpecialKey.source4.subarray(0, 12));
  return formatAddress(isMapped ? bytes.subarray(12) : bytes);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, index) => byte === b[index]);
}
