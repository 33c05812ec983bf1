/**
 * TCP packets that belong to no connection: connection tracking calls a SYN+ACK that nobody asked
 * for "invalid". Facts: raw(7), RFC 9293 section 3.1, `net/netfilter/nf_conntrack_proto_tcp.c`.
 */
import { LinuxError } from "../../src/linux/errno.ts";
import { addressBytes } from "../../src/ip/address.ts";
import { type Endpoint, poll, Socket } from "./sockets.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const IPPROTO_TCP = 6;
const SYN_ACK = 0x12;
const TCP_HEADER_BYTES = 20;

// Loaded with the module: Deno's tests take a library that a test loads for a leak.
const libc = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  __errno_location: { parameters: [], result: "pointer" },
}).symbols;

function check(result: number | bigint, attempt: string): number {
  const location = Number(result) < 0 ? libc.__errno_location() : null;
  if (location === null) return Number(result);
  throw new LinuxError(attempt, new Deno.UnsafePointerView(location).getInt32());
}

/** A socket that sends TCP packets as they are and gets a copy of each that arrives. */
export class RawTcpSocket extends Socket {
  /** Creates it in the thread's network namespace, for the family of an address. */
  constructor(private readonly address: string) {
    const domain = address.includes(":") ? AF_INET6 : AF_INET;
    super(check(
      libc.socket(domain, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP),
      "Cannot create a raw socket",
    ));
  }

  /** Sends a SYN+ACK. */
  sendStray(source: Endpoint, destination: Endpoint): void {
    const [from, to] = [source, destination].map(({ address }) => packAddress(address));
    check(libc.bind(this.fd, from!, from!.length), `Cannot bind to ${source.address}`);
    const segment = synAck(source, destination);
    check(
      libc.sendto(this.fd, segment, BigInt(segment.length), 0, to!, to!.length),
      `Cannot send to ${destination.address}`,
    );
  }

  /** Tells whether a packet between two ports arrives within a time. */
  arrives(sourcePort: number, destinationPort: number, timeoutMs: number): boolean {
    const until = performance.now() + timeoutMs;
    const packet = new Uint8Array(2048);
    for (;;) {
      const length = Number(libc.recv(this.fd, packet, BigInt(packet.length), 0));
      if (length < 0) {
        const left = Math.ceil(until - performance.now());
        if (left <= 0 || !poll([{ fd: this.fd }], left)[0]) return false;
        continue;
      }
      // Only IPv4 raw sockets give the IP header too.
      const start = this.address.includes(":") ? 0 : (packet[0]! & 15) * 4;
      const ports = new DataView(packet.buffer, start, 4);
      if (ports.getUint16(0) === sourcePort && ports.getUint16(2) === destinationPort) return true;
    }
  }
}

function packAddress(address: string): Uint8Array<ArrayBuffer> {
  const bytes = addressBytes(address);
  const packed = new Uint8Array(bytes.length === 4 ? 16 : 28);
  new DataView(packed.buffer).setUint16(0, bytes.length === 4 ? AF_INET : AF_INET6, true);
  packed.set(bytes, bytes.length === 4 ? 4 : 8);
  return packed;
}

function synAck(source: Endpoint, destination: Endpoint): Uint8Array<ArrayBuffer> {
  const segment = new Uint8Array(TCP_HEADER_BYTES);
  const view = new DataView(segment.buffer);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint32(4, 1);
  view.setUint32(8, 1);
  view.setUint8(12, TCP_HEADER_BYTES / 4 << 4);
  view.setUint8(13, SYN_ACK);
  view.setUint16(14, 1024);
  // Protocol and length of the pseudo header sum up the same for both families.
  let sum = IPPROTO_TCP + TCP_HEADER_BYTES;
  for (const bytes of [addressBytes(source.address), addressBytes(destination.address), segment]) {
    const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += 2) sum += words.getUint16(at);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  view.setUint16(16, ~sum & 0xffff);
  return segment;
}
