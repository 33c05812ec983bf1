/**
 * Connection tracking of the network namespace that the calling thread is in. Facts:
 * `linux/netfilter/nfnetlink_conntrack.h`.
 */
import { LinuxError } from "../../src/linux/errno.ts";
import { addressBytes } from "../../src/ip/address.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../src/linux/netlink.ts";
import {
  findAttribute,
  MessageBuilder,
  NLM_F_ACK,
  NLM_F_REQUEST,
  parseAttributes,
  sameBytes,
} from "../../src/linux/netlink_message.ts";
import type { Endpoint } from "./sockets.ts";

const CTNETLINK = 1 << 8;
const CT_GET = 1;
const CT_DELETE = 2;
const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;
const CTA_TUPLE_ORIG = 1;
const CTA_ZONE = 18;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP = { ipv4: { source: 1, destination: 2 }, ipv6: { source: 3, destination: 4 } };
const CTA_PROTO = { number: 1, sourcePort: 2, destinationPort: 3 };
const IPPROTO_UDP = 17;
const NFGENMSG_BYTES = 4;

/**
 * Returns those of the given zones in which a datagram from `source` to `destination`, before any
 * translation, began a connection.
 */
export function zonesOfDatagram(
  source: Endpoint,
  destination: Endpoint,
  zones: readonly number[] = [0, 1, 2],
): number[] {
  using socket = new NetlinkSocket(NETLINK_NETFILTER);
  return zones.filter((zone) => hasEntry(socket, source, destination, zone));
}

function hasEntry(
  socket: NetlinkSocket,
  source: Endpoint,
  destination: Endpoint,
  zone: number,
): boolean {
  const family = source.address.includes(":") ? "ipv6" : "ipv4";
  const message = begin(socket, CT_GET, family === "ipv4" ? AF_INET : AF_INET6);
  const tuple = message.beginNested(CTA_TUPLE_ORIG);
  const addresses = message.beginNested(CTA_TUPLE_IP);
  message.attribute(CTA_IP[family].source, addressBytes(source.address))
    .attribute(CTA_IP[family].destination, addressBytes(destination.address))
    .endAttribute(addresses);
  const protocol = message.beginNested(CTA_TUPLE_PROTO);
  message.attribute(CTA_PROTO.number, Uint8Array.of(IPPROTO_UDP))
    .attribute(CTA_PROTO.sourcePort, bigEndian(source.port))
    .attribute(CTA_PROTO.destinationPort, bigEndian(destination.port))
    .endAttribute(protocol);
  message.endAttribute(tuple).attribute(CTA_ZONE, bigEndian(zone)).endMessage();
  try {
    // The kernel also finds a connection that a datagram the other way began.
    return socket.request("Cannot look up a connection", message.data).some(({ payload }) =>
      isBegunBy(payload, source)
    );
  } catch (error) {
    if (error instanceof LinuxError && error.code === "ENOENT") return false;
    throw error;
  }
}

function isBegunBy(payload: Uint8Array, source: Endpoint): boolean {
  const nested = (bytes: Uint8Array, type: number): Uint8Array =>
    findAttribute(parseAttributes(bytes), type) ?? new Uint8Array();
  const tuple = nested(payload.subarray(NFGENMSG_BYTES), CTA_TUPLE_ORIG);
  const family = source.address.includes(":") ? "ipv6" : "ipv4";
  return sameBytes(
    nested(nested(tuple, CTA_TUPLE_IP), CTA_IP[family].source),
    addressBytes(source.address),
  ) && sameBytes(
    nested(nested(tuple, CTA_TUPLE_PROTO), CTA_PROTO.sourcePort),
    bigEndian(source.port),
  );
}

/** Forgets all connections. */
export function flushConntrack(): void {
  using socket = new NetlinkSocket(NETLINK_NETFILTER);
  const message = begin(socket, CT_DELETE, AF_UNSPEC).endMessage();
  socket.request("Cannot flush connection tracking", message.data);
}

function begin(socket: NetlinkSocket, type: number, family: number): MessageBuilder {
  return new MessageBuilder(256)
    .beginMessage(CTNETLINK | type, NLM_F_REQUEST | NLM_F_ACK, socket.nextSequence())
    .u8(family).u8(0).u16be(0);
}

function bigEndian(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff);
}
