/**
 * Links and IP addresses of the network namespace that the calling thread is in. Facts:
 * rtnetlink(7), `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h`. Needs `--allow-ffi`.
 */
import { EEXIST, LinuxError } from "./errno.ts";
import { addressBytes, formatAddress } from "../ip/address.ts";
import { NETLINK_ROUTE, NetlinkSocket } from "./netlink.ts";
import {
  type Attribute,
  findAttribute,
  type Message,
  MessageBuilder,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  parseAttributes,
  readText,
  readU32,
} from "./netlink_message.ts";

export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_INET6 = 10;

const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const IFLA_IFNAME = 3;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_F_NODAD = 0x02;
const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;
const IFINFOMSG_LENGTH = 16;
const IFADDRMSG_LENGTH = 8;

/** A network interface. */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly up: boolean;
  readonly loopback: boolean;
}

/** An address of an interface; `address` is canonical text. */
export interface InterfaceAddress {
  readonly family: "ipv4" | "ipv6";
  readonly address: string;
  readonly prefix: number;
  readonly linkIndex: number;
}

/**
 * Lists the interfaces.
 *
 * @throws {LinuxError} when the kernel refuses.
 */
export function listLinks(): Link[] {
  using socket = new NetlinkSocket(NETLINK_ROUTE);
  const messages = socket.dump(
    "Cannot list the network interfaces",
    (sequence) =>
      new MessageBuilder(64).beginMessage(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, sequence)
        .raw(new Uint8Array(IFINFOMSG_LENGTH)).endMessage().data,
  );
  return messages.filter(({ type }) => type === RTM_NEWLINK).map(readLink);
}

function readLink({ payload }: Message): Link {
  const flags = readU32(payload, 8);
  const name = findAttribute(parseAttributes(payload, IFINFOMSG_LENGTH), IFLA_IFNAME);
  return {
    index: readU32(payload, 4),
    name: name === undefined ? "" : readText(name),
    up: (flags & IFF_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
  };
}

/**
 * Returns the interface of an index, or of a name.
 *
 * @param open Socket of {@linkcode NETLINK_ROUTE} to ask over; without it a new one is opened.
 * @throws {LinuxError} with code `ENODEV` when there is none.
 */
export function getLink(which: number | string, open?: NetlinkSocket): Link {
  return overRoute(open, (socket) => {
    const request = new MessageBuilder(64)
      .beginMessage(RTM_GETLINK, NLM_F_REQUEST, socket.nextSequence())
      .u32(AF_UNSPEC).u32(typeof which === "number" ? which : 0).u32(0).u32(0);
    if (typeof which === "string") request.attributeText(IFLA_IFNAME, which);
    const attempt = `Cannot find network interface ${JSON.stringify(which)}`;
    const [link] = socket.request(attempt, request.endMessage().data);
    if (link === undefined) throw new LinuxError(attempt, 19);
    return readLink(link);
  });
}

/** Opening a socket takes five calls of the kernel: several questions go over one. */
function overRoute<T>(open: NetlinkSocket | undefined, work: (socket: NetlinkSocket) => T): T {
  if (open !== undefined) return work(open);
  using socket = new NetlinkSocket(NETLINK_ROUTE);
  return work(socket);
}

/**
 * Returns the loopback interface, recognised by its flag, not by its name.
 *
 * @param open as of {@linkcode getLink}.
 * @throws {LinuxError} when the kernel refuses or the namespace has none.
 */
export function loopbackLink(open?: NetlinkSocket): Link {
  // The kernel makes the loopback interface of a namespace first, so it nearly always has index 1.
  try {
    const first = getLink(1, open);
    if (first.loopback) return first;
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
  }
  const found = listLinks().find(({ loopback }) => loopback);
  if (found === undefined) throw new LinuxError("Cannot find the loopback interface", 19);
  return found;
}

/**
 * Lists the addresses of all interfaces, of both families or of one.
 *
 * @throws {LinuxError} when the kernel refuses.
 */
export function listAddresses(family?: "ipv4" | "ipv6"): InterfaceAddress[] {
  using socket = new NetlinkSocket(NETLINK_ROUTE);
  const wanted = family === undefined ? AF_UNSPEC : family === "ipv4" ? AF_INET : AF_INET6;
  const messages = socket.dump(
    "Cannot list the IP addresses",
    (sequence) =>
      new MessageBuilder(64).beginMessage(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence)
        .u8(wanted).u8(0).u8(0).u8(0).u32(0).endMessage().data,
  );
  const addresses: InterfaceAddress[] = [];
  for (const { type, payload } of messages) {
    const ofFamily = payload[0];
    if (type !== RTM_NEWADDR || (ofFamily !== AF_INET && ofFamily !== AF_INET6)) continue;
    const bytes = ownAddress(parseAttributes(payload, IFADDRMSG_LENGTH));
    if (bytes === undefined) continue;
    addresses.push({
      family: ofFamily === AF_INET ? "ipv4" : "ipv6",
      address: formatAddress(bytes),
      prefix: payload[1]!,
      linkIndex: readU32(payload, 4),
    });
  }
  return addresses;
}

/** `IFA_ADDRESS` is the peer's on point-to-point links, `IFA_LOCAL` always our own. */
function ownAddress(attributes: readonly Attribute[]): Uint8Array | undefined {
  return findAttribute(attributes, IFA_LOCAL) ?? findAttribute(attributes, IFA_ADDRESS);
}

/**
 * Adds an address to an interface, without duplicate address detection.
 *
 * @param address Canonical text, either family.
 * @param prefix Length of the network prefix in bits.
 * @param open as of {@linkcode getLink}.
 * @returns Whether it was added; `false` when the interface had it already.
 * @throws {LinuxError} when the kernel refuses, for example with `EACCES` when IPv6 is disabled.
 */
export function addAddress(
  linkIndex: number,
  address: string,
  prefix: number,
  open?: NetlinkSocket,
): boolean {
  const bytes = addressBytes(address);
  return overRoute(open, (socket) => {
    const flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    const request = new MessageBuilder(128)
      .beginMessage(RTM_NEWADDR, flags, socket.nextSequence())
      .u8(bytes.length === 4 ? AF_INET : AF_INET6).u8(prefix).u8(IFA_F_NODAD).u8(0).u32(linkIndex)
      .attribute(IFA_LOCAL, bytes).attribute(IFA_ADDRESS, bytes).endMessage();
    try {
      socket.request(
        `Cannot add address ${address}/${prefix} to interface ${linkIndex}`,
        request.data,
      );
      return true;
    } catch (error) {
      if (error instanceof LinuxError && error.errno === EEXIST) return false;
      throw error;
    }
  });
}

/**
 * Removes an address from an interface.
 *
 * @throws {LinuxError} when the kernel refuses, with `EADDRNOTAVAIL` when the interface has it not.
 */
export function removeAddress(linkIndex: number, address: string, prefix: number): void {
  const bytes = addressBytes(address);
  using socket = new NetlinkSocket(NETLINK_ROUTE);
  const request = new MessageBuilder(128)
    .beginMessage(RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK, socket.nextSequence())
    .u8(bytes.length === 4 ? AF_INET : AF_INET6).u8(prefix).u8(0).u8(0).u32(linkIndex)
    .attribute(IFA_LOCAL, bytes).attribute(IFA_ADDRESS, bytes).endMessage();
  const attempt = `Cannot remove address ${address}/${prefix} from interface ${linkIndex}`;
  socket.request(attempt, request.data);
}
