/** Lists of addresses, and networks behind interfaces, as a pod states them. */
import { type Cidr, parseCidr } from "../ip/cidr.ts";
import { parseAddress } from "../ip/address.ts";
import type { DnsConfig, VirtualNetwork } from "../redirect/config.ts";
import { quote } from "../text/quote.ts";
import { ConfigError } from "./config_error.ts";
import { checkLength, splitList } from "./scalars.ts";

/**
 * Parses addresses and networks; each element may itself be a list with commas.
 *
 * @param elements For example `["10.0.0.1,2001:db8::/32"]`.
 * @param setting The setting's name for messages.
 * @throws {ConfigError} when one is no address and no network.
 */
export function parseCidrs(elements: readonly string[], setting: string): Cidr[] {
  const cidrs = elements.flatMap((element) => splitList(element, ",", setting)).map((text) => {
    const cidr = parseCidr(text);
    if (cidr === undefined) {
      throw new ConfigError(
        `${setting} holds ${quote(text)} where an IP address or a network like "10.0.0.0/8" ` +
          `is expected`,
      );
    }
    return cidr;
  });
  checkLength(cidrs.length, setting);
  return distinct(cidrs, (cidr) => `${cidr.address}/${cidr.prefix}`);
}

/** Drops repetitions. */
export function distinct<T>(items: readonly T[], key: (item: T) => unknown): T[] {
  const seen = new Set<unknown>();
  return items.filter((item) => !seen.has(key(item)) && seen.add(key(item)));
}

/**
 * Parses virtual networks `interface:network`; the interface name may end in `+`.
 *
 * @throws {ConfigError} when an entry is not of that form, or an interface has two networks of one
 * family: the rules could not tell which traffic leaves it.
 */
export function parseVirtualNetworks(
  entries: readonly string[],
  setting: string,
): VirtualNetwork[] {
  checkLength(entries.length, setting);
  const networks = entries.filter((entry) => entry.trim() !== "").map((entry): VirtualNetwork => {
    const colon = entry.indexOf(":");
    const interfaceName = entry.slice(0, Math.max(0, colon)).trim();
    const cidr = parseCidr(entry.slice(colon + 1).trim());
    // Stricter than the kernel, which would also allow quotes and control characters.
    const named = /^[A-Za-z0-9_.@][A-Za-z0-9_.@-]*\+?$/.test(interfaceName) &&
      interfaceName.length <= 15 && interfaceName !== "." && interfaceName !== "..";
    if (!named || cidr === undefined) {
      throw new ConfigError(
        `${setting} holds ${quote(entry)} where "interface:network" is expected, for example ` +
          `"cni+:10.80.0.0/16"`,
      );
    }
    return { interfaceName, cidr };
  });
  const keys = networks.map(({ interfaceName, cidr }) => `${interfaceName} ${cidr.family}`);
  const twice = networks.find((_, index) => keys.indexOf(keys[index]!) !== index);
  if (twice !== undefined) {
    throw new ConfigError(
      `${setting} names the interface ${quote(twice.interfaceName)} twice in one IP family`,
    );
  }
  return networks;
}

/**
 * Reads the resolvers that the container runtime gives a pod.
 *
 * @returns The usable servers without repetition, and those that are no plain addresses.
 */
export function parseResolvers(
  resolvers: readonly string[],
): { servers: DnsConfig["servers"]; unusable: string[] } {
  const unusable: string[] = [];
  const cidrs = resolvers.flatMap((text) => {
    const cidr = parseAddress(text.trim()) && parseCidr(text.trim());
    if (cidr !== undefined) return [cidr];
    unusable.push(text);
    return [];
  });
  const servers = distinct(cidrs, (cidr) => cidr.address)
    .map(({ family, address }) => ({ family, address }));
  return { servers, unusable };
}
