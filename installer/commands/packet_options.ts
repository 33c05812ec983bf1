/** Reads a packet from what a person writes on a command line. */
import { formatAddress, type IpFamily, parseAddress } from "../../src/ip/address.ts";
import type { Packet } from "../../src/redirect/evaluate.ts";

/** The words of a person. */
export interface PacketWords {
  /**
   * `uid=1000`, `root`, `app`, `sidecar`, `nobody` (no socket), or an address, with `:port` or not.
   */
  readonly from: string;
  /** `address:port/protocol`, `port/protocol` of the pod itself, or `dns`. */
  readonly to: string;
  /** Addresses of the pod; a family without one uses an address for documentation. */
  readonly podIps: readonly string[];
  /** Interface where the packet comes in or goes out. */
  readonly interface?: string | undefined;
  readonly state?: Packet["conntrackState"] | undefined;
}

/** Where a packet comes from or goes to; what was not written is `undefined`. */
interface Endpoint {
  readonly family: IpFamily | undefined;
  readonly address: string | undefined;
  readonly port: number | undefined;
  readonly protocol: string | undefined;
}

const NOWHERE: Endpoint = {
  family: undefined,
  address: undefined,
  port: undefined,
  protocol: undefined,
};

/** Addresses for documentation (RFC 5737 and RFC 3849) that stand for the pod's and for others'. */
const POD: Readonly<Record<IpFamily, string>> = { ipv4: "192.0.2.10", ipv6: "2001:db8::10" };
const SERVER: Readonly<Record<IpFamily, string>> = {
  ipv4: "198.51.100.53",
  ipv6: "2001:db8:53::53",
};
const LOOPBACK: Readonly<Record<IpFamily, string>> = { ipv4: "127.0.0.1", ipv6: "::1" };

/** UID of `app`: a usual one of an application, any but the sidecar's and root's. */
const APP_UID = 1000;

/** Protocols by their names in `/etc/protocols`; those of the first list are looked at by port. */
const PORTED = ["tcp", "udp"];
const PORTLESS = ["icmp", "icmpv6", "sctp", "dccp", "esp", "ah", "gre", "igmp"];

/** Port that stands for the free port of whoever opens a connection. */
const CLIENT_PORT = 40000;

/**
 * Reads a packet.
 *
 * A sender with a UID is a process of the pod; a sender with nothing but an address outside of the
 * pod is somebody else, so that the packet comes in. Who sends to a loopback address or to the pod
 * sends from that address, as the kernel chooses it.
 *
 * @param words What was written.
 * @param sidecarUid UID that `sidecar` stands for.
 * @throws {Error} naming the word that cannot be read.
 */
export function readPacket(words: PacketWords, sidecarUid: number): Packet {
  const podIps = words.podIps.map((text) => {
    const address = parseAddress(text);
    if (address === undefined) {
      throw new Error(`Pod IP ${JSON.stringify(text)} is not an IP address`);
    }
    return { family: address.family, text: formatAddress(address.bytes) };
  });
  const podIp = (family: IpFamily) =>
    podIps.find((address) => address.family === family)?.text ?? POD[family];
  const isPods = (address: string) =>
    podIps.some(({ text }) => text === address) || Object.values(POD).includes(address);

  const sender = readSender(words.from, sidecarUid);
  const target = words.to === "dns"
    ? { family: undefined, address: undefined, port: 53, protocol: "udp" }
    : readEndpoint(words.to, "--to");
  const family = target.family ?? sender.endpoint.family ?? "ipv4";
  if (sender.endpoint.family !== undefined && sender.endpoint.family !== family) {
    throw new Error(`--from ${words.from} and --to ${words.to} are of different IP families`);
  }
  const { address: from, port: sourcePort = CLIENT_PORT } = sender.endpoint;
  const inbound = sender.uid === undefined && from !== undefined && !isLoopback(from) &&
    !isPods(from);
  const destination = target.address ??
    (words.to === "dns" && !inbound ? SERVER[family] : podIp(family));
  if (inbound && isLoopback(destination)) {
    throw new Error(`--to ${words.to} cannot be reached from ${words.from}, outside of the pod`);
  }
  const local = isLoopback(destination) || isPods(destination);
  const protocol = target.protocol ?? "tcp";
  const ported = PORTED.includes(protocol);
  if (ported && target.port === undefined) {
    throw new Error(`--to ${words.to} has no port; write ${withPort(words.to)}`);
  }
  if (!ported && target.port !== undefined) {
    throw new Error(
      `--to ${words.to} has a port, which packets of ${protocol} are not told apart by; write for ` +
        `example "${target.address ?? destination}/${protocol}"`,
    );
  }
  if (protocol === (family === "ipv4" ? "icmpv6" : "icmp")) {
    throw new Error(
      `--to ${words.to} is of no kind that ${family === "ipv4" ? "IPv4" : "IPv6"} has; write ` +
        `"${destination}/${family === "ipv4" ? "icmp" : "icmpv6"}"`,
    );
  }
  return {
    family,
    direction: inbound ? "inbound" : "outbound",
    protocol,
    source: from ?? (local ? sourceFor(destination, family) : podIp(family)),
    destination,
    ...(ported ? { sourcePort, destinationPort: target.port! } : {}),
    ...(inbound || sender.uid === undefined ? {} : { uid: sender.uid }),
    ...(words.interface === undefined
      ? local && !inbound ? { outputInterface: "lo" } : {}
      : inbound
      ? { inputInterface: words.interface }
      : { outputInterface: words.interface }),
    ...(words.state === undefined ? {} : { conntrackState: words.state }),
  };
}

/** Source that the kernel chooses for a destination of the pod itself. */
function sourceFor(destination: string, family: IpFamily): string {
  return isLoopback(destination) ? LOOPBACK[family] : destination;
}

function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1" || address === "::6";
}

function readSender(text: string, sidecarUid: number): { uid?: number; endpoint: Endpoint } {
  const users: Readonly<Record<string, number>> = {
    root: 0,
    app: sidecarUid === APP_UID ? APP_UID + 1 : APP_UID,
    sidecar: sidecarUid,
  };
  let uid: number | undefined;
  let endpoint: Endpoint = NOWHERE;
  for (const word of text.split(",").map((word) => word.trim())) {
    if (/^[0-9]+$/.test(word)) {
      throw new Error(
        `--from ${text} may mean a user or a port; write "uid=${word}" for a process of that user, ` +
          `or an address and the port, as "10.0.0.7:${word}"`,
      );
    }
    const number = /^uid=([0-9]{1,10})$/.exec(word)?.[1];
    if (number !== undefined && Number(number) <= 4294967294) uid = Number(number);
    else if (Object.hasOwn(users, word)) uid = users[word]!;
    else if (word !== "nobody") endpoint = readEndpoint(word, "--from");
  }
  if (endpoint.protocol !== undefined) {
    throw new Error(
      `--from ${text} names a protocol; that belongs to --to, for example --to ` +
        `"10.0.0.1${PORTED.includes(endpoint.protocol) ? ":443" : ""}/${endpoint.protocol}"`,
    );
  }
  return uid === undefined ? { endpoint } : { uid, endpoint };
}

/** An example of the address with a port, for a person who wrote none or no brackets. */
function withPort(text: string): string {
  const [place = "", protocol] = text.split("/");
  const suffix = protocol === undefined ? "" : `/${protocol}`;
  if (parseAddress(place)?.family !== "ipv6") return `for example "${place}:443${suffix}"`;
  const [, address, port] = /^(.*):([0-9]{1,5})$/.exec(place) ?? [];
  return address !== undefined && parseAddress(address) !== undefined
    ? `"[${address}]:${port}${suffix}" if ${port} is the port`
    : `for example "[${place}]:443${suffix}"`;
}

function readEndpoint(text: string, option: string): Endpoint {
  const fail = () =>
    new Error(
      `${option} ${text} cannot be read; expected ${
        option === "--from"
          ? '"uid=1000", "root", "app", "sidecar", "nobody" or an address like "10.0.0.1"'
          : '"10.0.0.1:443/tcp", "[fd00::1]:53/udp", "8080" of the pod, or "dns"'
      }`,
    );
  const [place = "", protocol, ...more] = text.split("/");
  if (more.length > 0) throw fail();
  if (protocol !== undefined && ![...PORTED, ...PORTLESS].includes(protocol)) {
    throw new Error(
      `${option} ${text} names the unknown protocol ${JSON.stringify(protocol)}; expected one of ${
        [...PORTED, ...PORTLESS].join(", ")
      }`,
    );
  }
  const whole = parseAddress(place);
  if (whole !== undefined) {
    return { family: whole.family, address: formatAddress(whole.bytes), port: undefined, protocol };
  }
  if (/^:?[0-9]{1,5}$/.test(place)) {
    return {
      family: undefined,
      address: undefined,
      port: portOf(place.replace(":", "")),
      protocol,
    };
  }
  const [host, port] = splitHost(place);
  const address = host === undefined ? undefined : parseAddress(host);
  if (address === undefined) throw fail();
  return {
    family: address.family,
    address: formatAddress(address.bytes),
    port: port === undefined ? undefined : portOf(port),
    protocol,
  };

  function portOf(digits: string): number {
    const port = Number(digits);
    if (port < 1 || port > 65535) throw fail();
    return port;
  }
}

/** Splits `1.2.3.4:5`, `[::1]:5` and `[::1]`. */
function splitHost(place: string): [host?: string, port?: string] {
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::([0-9]{1,5}))?$/.exec(place);
  if (match === null) return [];
  const host = match[1] ?? match[2]!;
  return match[3] === undefined ? [host] : [host, match[3]];
}
