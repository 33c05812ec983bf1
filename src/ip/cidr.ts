/** Networks of IP addresses. */
import { type Address, formatAddress, type IpFamily, parseAddress, unmapped } from "./address.ts";

/** A network; the host bits are zero. */
export interface Cidr {
  readonly family: IpFamily;
  readonly address: string;
  readonly prefix: number;
}

/**
 * Parses an address or a network in prefix notation and clears the host bits. An IPv4-mapped IPv6
 * network (`::ffff:10.0.0.0/104`) is the IPv4 network, since its packets are IPv4 packets.
 *
 * @param text For example `10.0.0.1`, `10.70.0.1/16` or `2001:db8::/32`.
 * @returns The network, or `undefined` when the text is not one.
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
  const plain = unmapped(address);
  if (plain !== address) {
    if (prefix < 96) return undefined;
    ({ family, bytes } = plain);
    prefix -= 96;
  }
  return { family, address: formatAddress(mask(bytes, prefix)), prefix };
}

/** Clears all bits behind a prefix of `prefix` bits. */
function mask(bytes: Uint8Array<ArrayBuffer>, prefix: number): Uint8Array<ArrayBuffer> {
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
