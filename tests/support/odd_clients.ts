/** TCP clients that connect in other ways than most, for tests. */
import { LinuxError } from "../../src/linux/errno.ts";
import { lastErrno } from "../../src/linux/libc.ts";
import { addressBytes } from "../../src/ip/address.ts";
import { type Endpoint, formatEndpoint, TcpSocket } from "./sockets.ts";

const libc = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
}).symbols;

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const IPPROTO_MPTCP = 262;
const MSG_FASTOPEN = 0x20000000;

function checked(result: number, what: string): number {
  if (result < 0) throw new LinuxError(what, lastErrno());
  return result;
}

function pack({ address, port }: Endpoint): Uint8Array<ArrayBuffer> {
  const bytes = addressBytes(address);
  const packed = new Uint8Array(bytes.length === 4 ? 16 : 28);
  const view = new DataView(packed.buffer);
  view.setUint16(0, bytes.length === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  packed.set(bytes, bytes.length === 4 ? 4 : 8);
  return packed;
}

/** Opens a blocking socket that nothing binds. */
export function openClient(kind: "ipv4" | "ipv6" | "mptcp"): TcpSocket {
  const family = kind === "ipv6" ? AF_INET6 : AF_INET;
  const protocol = kind === "mptcp" ? IPPROTO_MPTCP : 0;
  return new TcpSocket(checked(libc.socket(family, SOCK_STREAM, protocol), `Cannot open ${kind}`));
}

/** Connects and waits for it. IPv6 sockets can connect to mapped IPv4 addresses. */
export function connectClient(client: TcpSocket, to: Endpoint): void {
  const address = pack(to);
  const what = `Cannot connect to ${formatEndpoint(to)}`;
  checked(libc.connect(client.fd, address, address.length), what);
}

/** Ends the connection; the socket can connect again. */
export function disconnectClient(client: TcpSocket): void {
  checked(libc.connect(client.fd, new Uint8Array(16), 16), "Cannot disconnect");
}

/** Sends data with the SYN. */
export function connectFast(client: TcpSocket, to: Endpoint): void {
  const [data, address] = [new Uint8Array([0x70]), pack(to)];
  const sent = libc.sendto(client.fd, data, 1n, MSG_FASTOPEN, address, address.length);
  checked(Number(sent), `Cannot connect fast to ${formatEndpoint(to)}`);
}
