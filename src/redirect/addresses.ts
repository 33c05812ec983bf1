/**
 * IP addresses and networks: strict parsing and the text form of `inet_ntop(3)`, which is what
 * `iptables-save` and `nft` print.
 */
import type { Cidr, IpFamily } from "./config.ts";

/** An address as its 4 or 16 bytes in network order. */
export interface Address {
  readonly family: IpFamily;
  readonly bytes: Uint8Array;
}

/**
 * Parses an address. Four decimal numbers without leading zeros, or IPv6 in any form of RFC 4291
 * section 2.2, also with an embedded IPv4 address; a zone (`%eth0`) is refused.
 *
 * @param text The address.
 * @returns The address, or `undefined` when the text is none.
 */
export function parseAddress(text: string): Address | undefined {
  if (text.length > 45) return undefined;
  const bytes = text.includes(":") ? parseIpv6(text) : parseIpv4(text);
  return bytes && { family: bytes.length === 4 ? "ipv4" : "ipv6", bytes };
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const bytes = new Uint8Array(4);
  for (const [index, part] of parts.entries()) {
    // A leading zero means octal to some programs and decimal to others.
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    bytes[index] = Number(part);
  }
  return bytes;
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1]!, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  return Uint8Array.from([...head, ...new Array<number>(missing).fill(0), ...tail]);
}

function parseGroups(text: string, last: boolean): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (group.includes(".")) {
      const embedded = last && index === groups.length - 1 ? parseIpv4(group) : undefined;
      if (embedded === undefined) return undefined;
      bytes.push(...embedded);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
      const value = parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

/**
 * Writes an address as `inet_ntop(3)` of glibc does: lower case, the first longest run of at least
 * two zero groups shortened, the last four bytes of IPv4-compatible and -mapped addresses dotted.
 */
export function formatAddress({ bytes }: Address): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => bytes[2 * i]! << 8 | bytes[2 * i + 1]!);
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const dotted = best.start === 0 &&
    (best.length === 6 || (best.length === 5 && groups[5] === 0xffff));
  const words = groups.map((group) => group.toString(16));
  if (dotted) words.splice(6, 2, bytes.subarray(12).join("."));
  if (best.start < 0) return words.join(":");
  const before = words.slice(0, best.start).join(":");
  const after = words.slice(best.start + best.length).join(":");
  return `${before}::${after}`;
}

/**
 * Parses an address or a network in prefix notation and clears the host bits. An IPv4-mapped IPv6
 * network (`::ffff:10.0.0.0/104`) is the IPv4 network, since its packets are IPv4 packets.
 *
 * @param text For example `10.0.0.1`, `10.70.0.1/16` or `2001:db8::/32`.
 * @returns The network, or `undefined` when the text is none.
 */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  let { family, bytes } = address;
  let prefix = bytes.length * 8;
  if (slash >= 0) {
    const length = text.slice(slash + 1);
    if (!/^(0|[1-9][0-9]{0,2})$/.test(length) || Number(length) > prefix) return undefined;
    prefix = Number(length);
  }
  if (isMapped(bytes)) {
    if (prefix < 96) return undefined;
    family = "ipv4";
    bytes = bytes.subarray(12);
    prefix -= 96;
  }
  return { family, address: formatAddress({ family, bytes: mask(bytes, prefix) }), prefix };
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes.length === 16 && bytes[10] === 0xff && bytes[11] === 0xff &&
    bytes.subarray(0, 10).every((byte) => byte === 0);
}

/** Clears all bits behind a prefix of `prefix` bits. */
function mask(bytes: Uint8Array, prefix: number): Uint8Array {
  return bytes.map((byte, index) => {
    const kept = Math.min(8, Math.max(0, prefix - 8 * index));
    return byte & (0xff00 >> kept);
  });
}

/**
 * Tells whether an address lies in a network of the same family.
 *
 * @param cidr A network whose address is valid text.
 * @param address An address.
 */
export function contains(cidr: Cidr, address: Address): boolean {
  if (cidr.family !== address.family) return false;
  const network = parseAddress(cidr.address)!.bytes;
  const masked = mask(address.bytes, cidr.prefix);
  return network.every((byte, index) => byte === masked[index]);
}
