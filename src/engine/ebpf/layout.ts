/**
 * What the programs share: maps, the layout of their entries and of the stack, and the offsets of
 * the kernel's structures. Facts: `linux/bpf.h`.
 */

/** Maps of one pod, by their names in the kernel. */
export const MapName = {
  /** Of each redirected socket: where it wanted to go. It goes with the socket. */
  original: "kuma_original",
  /** The same for connections whose other end does not exist yet: from SYN to ESTABLISHED. */
  inFlight: "kuma_inflight",
  /** The sidecar's listeners for incoming connections, in slots. */
  listeners: "kuma_listeners",
  /** The pod's own addresses, and facts that change without a change of the rules. */
  addresses: "kuma_addresses",
  /** How often what happened. */
  counters: "kuma_counters",
} as const;

/** Where a redirected socket wanted to go: 16 bytes of address (IPv4 mapped), port, role. */
export const Original = {
  bytes: 24,
  address: 0,
  /** In the network's byte order. */
  port: 16,
  role: 20,
} as const;

/** The two ends of a redirected connection. */
export const Role = { client: 1, server: 2 } as const;

/** Key of a connection in flight, as its client sees it. */
export const Flight = {
  ...{ bytes: 40, localAddress: 0, remoteAddress: 16, localPort: 32, remotePort: 36 },
  /** The kernel makes 16 bytes for each, whether used or not. */
  entries: 4096,
} as const;

/** Slots for listeners of each family; a sidecar has one for each of its threads. */
export const LISTENER_SLOTS = 8;

/** Most addresses of one pod, loopback's and special entries included. */
export const MOST_ADDRESSES = 256;

/** Counters, in the order in which they stand in memory. */
export const COUNTERS = ["outbound", "inbound", "dns", "refused", "lost"] as const;

/** One of them. */
export type Counter = typeof COUNTERS[number];

/** The third word of an IPv4 address that is mapped to IPv6, as a little-endian machine loads it. */
export const MAPPED_WORD = 0xffff0000 | 0;

/** Keys of {@linkcode MapName.addresses} that are not addresses of an interface. */
export const SpecialKey = {
  /** Its value is the address that outgoing IPv4 connections come from. */
  source4: new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]),
  /** The same for IPv6. */
  source6: new Uint8Array(16),
  /** Its value is the inode of the network namespace that the maps are for. */
  namespace: new Uint8Array(16).fill(0xff),
} as const;

/** Places on the stack. */
export const Stack = {
  /** Destination: 16 bytes, IPv4 mapped. */
  destination: -16,
  /** Source: 16 bytes, IPv4 mapped. */
  source: -32,
  /** Key of a connection in flight: 40 bytes. */
  flight: -72,
  /** Address that a socket is bound to, as `sockaddr_in6`: 28 bytes. */
  socketAddress: -104,
  /** A key of 16 bytes. */
  key: -120,
} as const;

/** `struct bpf_sock_addr` */
export const SocketAddress = {
  ...{ ip4: 4, ip6: 8, port: 24, protocol: 36, socket: 64 },
} as const;

/** `struct bpf_sock` */
export const Socket = {
  ...{ family: 4, protocol: 12, sourceIp4: 24, sourceIp6: 28, sourcePort: 44 },
} as const;

/** `struct bpf_sock_ops` */
export const SocketOperation = {
  ...{ operation: 0, secondArgument: 8, family: 20, remoteIp4: 24, localIp4: 28 },
  ...{ remoteIp6: 32, localIp6: 48, remotePort: 64, localPort: 68, callbackFlags: 84, socket: 184 },
} as const;

/** `struct bpf_sockopt` */
export const SocketOption = {
  ...{ socket: 0, value: 8, valueEnd: 16, level: 24, name: 28, length: 32, result: 36 },
} as const;

/** `struct bpf_sk_lookup` */
export const SocketLookup = {
  ...{ family: 8, protocol: 12, remoteIp4: 16, remoteIp6: 20, localIp4: 40, localIp6: 44 },
  ...{ localPort: 60 },
} as const;

/** Answers of the programs at calls of a cgroup's processes; the kernel takes no others. */
export const ALLOWED = 1;
export const REFUSED = 0;

export const AF_INET = 2;
export const AF_INET6 = 10;
export const TCP = 6;
export const UDP = 17;

/** `127.0.0.1` as a little-endian machine loads it. */
export const LOCALHOST_WORD = 0x0100007f;

/** First two bytes of the network over which connections to the sidecar are spread: 127.15.0.0/16. */
export const SPREAD_WORD = 0x0f7f;

/** Reads four bytes of an address as the programs do. */
export function wordOf(bytes: Uint8Array, index: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(index * 4, true);
}

/** A port in the network's byte order as a little-endian machine loads it. */
export function portWord(port: number): number {
  return (port & 0xff) << 8 | port >> 8;
}
