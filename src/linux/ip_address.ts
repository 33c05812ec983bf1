/** IP addresses as bytes and as text. */

/**
 * Returns the 4 or 16 bytes of an address.
 *
 * @param text An IPv4 address in dotted decimal form, or an IPv6 address in any form of RFC 4291
 * section 2.2, without zone.
 * @throws {TypeError} when the text is no such address.
 */
export function addressBytes(text: string): Uint8Array<ArrayBuffer> {
  const bytes = text.includes(":") ? ipv6Bytes(text) : ipv4Bytes(text);
  if (bytes === undefined) {
    throw new TypeError(`Cannot read ${JSON.stringify(text)} as an IP address`);
  }
  return new Uint8Array(bytes);
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

/** Formats 4 or 16 bytes as canonical text (RFC 5952). */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8 | bytes[2 * i + 1]!));
  let [bestStart, bestLength] = [-1, 1];
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > bestLength) [bestStart, bestLength] = [start, length];
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestStart === -1) return hex.join(":");
  return `${hex.slice(0, bestStart).join(":")}::${hex.slice(bestStart + bestLength).join(":")}`;
}
