/** A configuration of redirection as JSON holds it, checked before rules are made of it. */
import { parseAddress } from "../ip/address.ts";
import { parseCidr } from "../ip/cidr.ts";
import { isRecord, own } from "../json/record.ts";
import type {
  DirectionConfig,
  DnsConfig,
  Range,
  RedirectConfig,
  UidExclusion,
  VirtualNetwork,
} from "../redirect/config.ts";

type Values = Record<string, unknown>;

/** Most members of a list: more than all ports. */
const longestList = 70_000;

/**
 * Reads a configuration that was written as JSON.
 *
 * @param json A value as `JSON.parse` makes it.
 * @throws {TypeError} naming the field that is missing or wrong, for example when another version has
 * written it.
 */
export function parseRedirectConfig(json: unknown): RedirectConfig {
  const config = record(json, "config");
  const log = record(own(config, "log"), "log");
  return {
    rulesVersion: oneOf(config, "rulesVersion", ["2.9", "3"]),
    ipFamilyMode: oneOf(config, "ipFamilyMode", ["dualstack", "ipv4", "ipv6"]),
    sidecarUid: whole(own(config, "sidecarUid"), "sidecarUid", 0, 0xfffffffe),
    inbound: direction(own(config, "inbound"), "inbound"),
    outbound: direction(own(config, "outbound"), "outbound"),
    dns: dns(own(config, "dns")),
    virtualNetworks: list(own(config, "virtualNetworks"), "virtualNetworks", virtualNetwork),
    dropInvalidPackets: truth(config, "dropInvalidPackets"),
    log: { enabled: truth(log, "enabled"), level: whole(own(log, "level"), "log.level", 0, 7) },
    comments: truth(config, "comments"),
  };
}

function direction(json: unknown, place: string): DirectionConfig {
  const values = record(json, place);
  const ipv6Port = own(values, "ipv6Port");
  return {
    enabled: truth(values, "enabled"),
    port: port(own(values, "port"), `${place}.port`),
    ...(ipv6Port === undefined ? {} : { ipv6Port: port(ipv6Port, `${place}.ipv6Port`) }),
    includePorts: list(own(values, "includePorts"), `${place}.includePorts`, port),
    excludePorts: list(own(values, "excludePorts"), `${place}.excludePorts`, port),
    excludeIps: list(own(values, "excludeIps"), `${place}.excludeIps`, cidr),
    excludeUids: list(own(values, "excludeUids"), `${place}.excludeUids`, uidExclusion),
    insertInsteadOfAppend: truth(values, "insertInsteadOfAppend"),
  };
}

function uidExclusion(json: unknown, place: string): UidExclusion {
  const values = record(json, place);
  return {
    protocol: oneOf(values, "protocol", ["tcp", "udp"]),
    ports: list(own(values, "ports"), `${place}.ports`, (one, at) => range(one, at, 65535)),
    uids: range(own(values, "uids"), `${place}.uids`, 0xfffffffe),
  };
}

function range(json: unknown, place: string, most: number): Range {
  const values = record(json, place);
  const from = whole(own(values, "from"), `${place}.from`, 0, most);
  return { from, to: whole(own(values, "to"), `${place}.to`, from, most) };
}

function dns(json: unknown): DnsConfig {
  const values = record(json, "dns");
  return {
    enabled: truth(values, "enabled"),
    port: port(own(values, "port"), "dns.port"),
    captureAll: truth(values, "captureAll"),
    servers: list(own(values, "servers"), "dns.servers", (one, place) => {
      const server = record(one, place);
      const address = own(server, "address");
      const parsed = typeof address === "string" ? parseAddress(address) : undefined;
      const family = oneOf(server, "family", ["ipv4", "ipv6"]);
      if (typeof address !== "string" || parsed?.family !== family) {
        throw wrong(place, `an address of ${family}`);
      }
      return { family, address };
    }),
    skipConntrackZoneSplit: truth(values, "skipConntrackZoneSplit"),
  };
}

function virtualNetwork(json: unknown, place: string): VirtualNetwork {
  const values = record(json, place);
  const interfaceName = own(values, "interfaceName");
  if (typeof interfaceName !== "string" || !/^[^/:\s\0]{1,16}$/.test(interfaceName)) {
    throw wrong(place, "a name of an interface");
  }
  return { interfaceName, cidr: cidr(own(values, "cidr"), `${place}.cidr`) };
}

function cidr(json: unknown, place: string): ReturnType<typeof parseCidr> & object {
  const values = record(json, place);
  const found = parseCidr(`${own(values, "address")}/${own(values, "prefix")}`);
  if (found === undefined || found.family !== own(values, "family")) {
    throw wrong(place, "a network");
  }
  return found;
}

function port(json: unknown, place: string): number {
  return whole(json, place, 1, 65535);
}

function whole(json: unknown, place: string, least: number, most: number): number {
  if (Number.isInteger(json) && (json as number) >= least && (json as number) <= most) {
    return json as number;
  }
  throw wrong(place, `a whole number from ${least} to ${most}`);
}

function truth(values: Values, key: string): boolean {
  const found = own(values, key);
  if (typeof found === "boolean") return found;
  throw wrong(key, "true or false");
}

function oneOf<const T extends string>(values: Values, key: string, allowed: readonly T[]): T {
  const found = allowed.find((value) => value === own(values, key));
  if (found === undefined) throw wrong(key, `one of ${allowed.join(", ")}`);
  return found;
}

function list<T>(json: unknown, place: string, item: (json: unknown, place: string) => T): T[] {
  if (!Array.isArray(json) || json.length > longestList) throw wrong(place, "a list");
  return json.map((one, index) => item(one, `${place}[${index}]`));
}

function record(json: unknown, place: string): Values {
  if (!isRecord(json)) throw wrong(place, "an object");
  return json;
}

function wrong(place: string, expected: string): TypeError {
  return new TypeError(`Cannot use a stored configuration: "${place}" must be ${expected}`);
}
