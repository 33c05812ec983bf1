/**
 * IP addresses as bytes and as text: strict parsing, and the text form of `inet_ntop(3)`, which is
 * what `iptables-save` and `nft` print.
 */

/** An IP family. */
export type IpFamily = "ipv4" | "ipv6";

/** An address as its 4 or 16 bytes in network order. */
export interface Address {
  readonly family: IpFamily;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Parses an address. Four decimal numbers without leading zeros, or IPv6 in any form of RFC 4291
 * section 2.2, also with an embedded IPv4 address; a zone (`%eth0`) is refused.
 *
 * @param text The address.
 * @returns The address, or `undefined` when the text is not one.
 */
export function parseAddress(text: string): Address | undefined {
  // The longest form has 45 characters.
  if (text.length > 45) return undefined;
  const bytes = text.includes(":") ? ipv6Bytes(text) : ipv4Bytes(text);
  return bytes && { family: bytes.length === 4 ? "ipv4" : "ipv6", bytes: new Uint8Array(bytes) };
}

/**
 * Returns the 4 or 16 bytes of an address.
 *
 * @param text As for {@linkcode parseAddress}.
 * @throws {TypeError} when the text is not an address.
 */
export function addressBytes(text: string): Uint8Array<ArrayBuffer> {
  const address = parseAddress(text);
  if (address === undefined) {
    throw new TypeError(`Cannot read ${JSON.stringify(text)} as an IP address`);
  }
  return address.bytes;
}

// No regular expressions: compiling them would cost each start of the plugin half a millisecond.

function ipv4Bytes(text: string): number[] | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const bytes = parts.map((part) => digits(part, 10, 3));
  const valid = bytes.every((byte, index) => byte <= 255 && String(byte) === parts[index]);
  return valid ? bytes : undefined;
}

/** Value of 1 to `most` digits, else `NaN`. */
function digits(text: string, base: 10 | 16, most: number): number {
  if (text.length === 0 || text.length > most) return NaN;
  let value = 0;
  for (const character of text) {
    const digit = "0123456789abcdef".indexOf(character.toLowerCase());
    if (digit === -1 || digit >= base) return NaN;
    value = value * base + digit;
  }
  return value;
}

function ipv6Bytes(text: string): number[] | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half, index) => groupBytes(half, index === halves.length - 1));
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  if (tail === undefined) return head.length === 16 ? head : undefined;
  const gap = 16 - head.length - tail.length;
  return gap < 2 ? undefined : [...head, ...new Array<number>(gap).fill(0), ...tail];
}

/** An IPv4 address may stand for the last two groups of the whole address only. */
function groupBytes(text: string, last: boolean): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    const value = digits(group, 16, 4);
    if (!Number.isNaN(value)) {
      bytes.push(value >> 8, value & 255);
    } else {
      const embedded = last && index === groups.length - 1 ? ipv4Bytes(group) : undefined;
      if (embedded === undefined) return undefined;
      bytes.push(...embedded);
    }
  }
  return bytes;
}

/**
 * Writes an address as `inet_ntop(3)` of glibc does: lower case, the first longest run of at least
 * two zero groups shortened, the last four bytes of IPv4-compatible and -mapped addresses dotted.
 */
export function formatAddress(bytes: Uint8Array): string {
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

/** Returns the IPv4 address that an IPv6 one stands for (`::ffff:10.0.0.1`); any other as it is. */
export function unmapped(address: Address): Address {
  const { bytes } = address;
  const isMapped = bytes.length === 16 && bytes[10] === 0xff && bytes[11] === 0xff &&
    bytes.subarray(0, 10).every((byte) => byte === 0);
  return isMapped ? { family: "ipv4", bytes: bytes.slice(12) } : address;
}
