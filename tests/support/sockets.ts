/**
 * Synchronous TCP and UDP sockets over FFI, for tests, the demo and the operator commands. The
 * plugin does not use them. A socket belongs for life to the network namespace in which it was
 * created, so one thread can hold sockets of several namespaces: enter, create, leave, and use them
 * from anywhere. Deno's own sockets cannot do this, since they are created on other threads.
 *
 * All functions need `--allow-ffi`. Facts: `ip(7)`, `ipv6(7)`, `socket(7)`, `poll(2)`,
 * `setfsuid(2)`, `linux/netfilter_ipv4.h`, `linux/netfilter_ipv6/ip6_tables.h`.
 */
import { EAGAIN, EINTR, LinuxError } from "../../src/linux/errno.ts";

/** An IP address as canonical text, with a port. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** A bound that was set by the caller ran out. */
export class SocketTimeout extends Error {
  override readonly name = "SocketTimeout";
}

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
const SO_ERROR = 4;
const SO_LINGER = 13;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const IP_RECVERR = 11;
const IPV6_RECVERR = 25;
const IPV6_V6ONLY = 26;
/** `SO_ORIGINAL_DST` at `SOL_IP` and `IP6T_SO_ORIGINAL_DST` at `SOL_IPV6` have the same number. */
const SO_ORIGINAL_DST = 80;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;
const POLLIN = 1;
const POLLOUT = 4;
const SOL_TCP = 6;
const TCP_INFO = 11;
/** Of a socket whose connect(2) failed, as of one that never tried. */
const TCP_CLOSE = 7;
const EINPROGRESS = 115;

// Loaded with the module: Deno's tests take a library that a test loads for a leak.
const libc = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  accept4: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  recvfrom: {
    parameters: ["i32", "buffer", "usize", "i32", "buffer", "buffer"],
    result: "isize",
  },
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
  inet_pton: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  inet_ntop: { parameters: ["i32", "buffer", "buffer", "u32"], result: "pointer" },
  setfsuid: { parameters: ["u32"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
}).symbols;

function errno(): number {
  const location = libc.__errno_location();
  return location === null ? 0 : new Deno.UnsafePointerView(location).getInt32(0);
}

function check(result: number | bigint, what: string): number {
  const value = Number(result);
  if (value < 0) throw new LinuxError(what, errno());
  return value;
}

/** Whether an address is IPv6, told by its text. */
function familyOf(address: string): typeof AF_INET | typeof AF_INET6 {
  return address.includes(":") ? AF_INET6 : AF_INET;
}

function packAddress({ address, port }: Endpoint): Uint8Array<ArrayBuffer> {
  const family = familyOf(address);
  const packed = new Uint8Array(family === AF_INET ? 16 : 28);
  new DataView(packed.buffer).setUint16(0, family, true);
  new DataView(packed.buffer).setUint16(2, port);
  const text = new TextEncoder().encode(address + "\0");
  if (libc.inet_pton(family, text, packed.subarray(family === AF_INET ? 4 : 8)) !== 1) {
    throw new TypeError(`Cannot use "${address}" as an IP address`);
  }
  return packed;
}

function unpackAddress(packed: Uint8Array<ArrayBuffer>): Endpoint {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const family = view.getUint16(0, true);
  const port = view.getUint16(2);
  if (family === AF_INET) return { address: packed.subarray(4, 8).join("."), port };
  const text = new Uint8Array(46);
  libc.inet_ntop(AF_INET6, packed.subarray(8), text, text.length);
  return { address: new TextDecoder().decode(text.subarray(0, text.indexOf(0))), port };
}

/** Writes an endpoint as people do: `10.0.0.1:80`, `[fd00::1]:80`. */
export function formatEndpoint({ address, port }: Endpoint): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/**
 * Reads what {@linkcode formatEndpoint} writes.
 *
 * @throws {TypeError} when the text has another form
 */
export function parseEndpoint(text: string): Endpoint {
  const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const address = parts?.[1] ?? parts?.[2];
  if (parts === null || address === undefined) {
    throw new TypeError(`Cannot use "${text}" as an endpoint: want "10.0.0.1:80" or "[::1]:80"`);
  }
  return { address, port: Number(parts[3]) };
}

/** What a caller of {@linkcode poll} waits for on one file descriptor. */
export interface PollInterest {
  readonly fd: number;
  readonly write?: boolean;
}

/**
 * Waits until at least one file descriptor is ready, has an error or is hung up.
 *
 * @param interests file descriptors, for reading unless told otherwise
 * @param timeoutMs milliseconds; negative waits for ever, 0 only looks
 * @returns for each interest whether it is ready
 */
export function poll(interests: readonly PollInterest[], timeoutMs: number): boolean[] {
  const set = new DataView(new ArrayBuffer(interests.length * 8));
  interests.forEach(({ fd, write }, i) => {
    set.setInt32(i * 8, fd, true);
    set.setInt16(i * 8 + 4, write ? POLLOUT : POLLIN, true);
  });
  const until = performance.now() + timeoutMs;
  for (;;) {
    const left = timeoutMs < 0 ? -1 : Math.max(0, Math.ceil(until - performance.now()));
    const ready = libc.poll(new Uint8Array(set.buffer), BigInt(interests.length), left);
    if (ready < 0 && errno() === EINTR) continue;
    check(ready, "Cannot wait for sockets with poll(2)");
    return interests.map((_, i) => set.getInt16(i * 8 + 6, true) !== 0);
  }
}

function setOption(fd: number, level: number, option: number, ...values: number[]): void {
  const value = new Uint8Array(new Int32Array(values).buffer);
  check(
    libc.setsockopt(fd, level, option, value, value.length),
    `Cannot set socket option ${option} of level ${level}`,
  );
}

/** A socket of any kind; closed with `using` or {@linkcode Socket.close}. */
export class Socket implements Disposable {
  #open = true;

  constructor(readonly fd: number) {}

  /** Local address and port. */
  get local(): Endpoint {
    const address = new Uint8Array(28);
    const length = new Uint8Array(new Uint32Array([address.length]).buffer);
    check(libc.getsockname(this.fd, address, length), "Cannot read a socket's local address");
    return unpackAddress(address);
  }

  /** Address and port of the other end. */
  get remote(): Endpoint {
    const address = new Uint8Array(28);
    const length = new Uint8Array(new Uint32Array([address.length]).buffer);
    check(libc.getpeername(this.fd, address, length), "Cannot read a socket's remote address");
    return unpackAddress(address);
  }

  /**
   * Waits until the socket can be read (or written).
   *
   * @throws {SocketTimeout} when that takes longer than `timeoutMs`
   */
  wait(timeoutMs: number, { write = false } = {}): void {
    if (!poll([{ fd: this.fd, write }], timeoutMs)[0]) {
      throw new SocketTimeout(
        `Socket was not ${write ? "writable" : "readable"} in ${timeoutMs} ms`,
      );
    }
  }

  /** Takes and clears the socket's pending error, 0 when there is none (`SO_ERROR`). */
  takeError(): number {
    const value = new Int32Array(1);
    const length = new Uint8Array(new Uint32Array([4]).buffer);
    const bytes = new Uint8Array(value.buffer);
    check(libc.getsockopt(this.fd, SOL_SOCKET, SO_ERROR, bytes, length), "Cannot read SO_ERROR");
    return value[0] ?? 0;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    libc.close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A connected (or connecting) TCP socket. */
export class TcpSocket extends Socket {
  /**
   * Where the client wanted to go before netfilter redirected the connection; without redirection
   * this is the local address, or `undefined` when connection tracking does not know the connection.
   */
  originalDestination(): Endpoint | undefined {
    const family = familyOf(this.local.address);
    const address = new Uint8Array(28);
    const length = new Uint8Array(new Uint32Array([family === AF_INET ? 16 : 28]).buffer);
    const level = family === AF_INET ? SOL_IP : SOL_IPV6;
    const result = libc.getsockopt(this.fd, level, SO_ORIGINAL_DST, address, length);
    return result === 0 ? unpackAddress(address) : undefined;
  }

  /**
   * Ends {@linkcode startTcpConnect}: call it when the socket has become writable.
   *
   * @throws {LinuxError} with the reason when the connection was not made, for example `ECONNREFUSED`
   */
  finishConnect(): void {
    const error = this.takeError();
    if (error !== 0) throw new LinuxError("Cannot connect", error);
  }

  /** Sends all bytes; meant for messages that fit the socket's buffer. */
  send(data: Uint8Array<ArrayBuffer>): void {
    const sent = check(
      libc.send(this.fd, data, BigInt(data.length), MSG_NOSIGNAL),
      "Cannot send to a TCP socket",
    );
    if (sent < data.length) throw new Error(`Only ${sent} of ${data.length} bytes could be sent`);
  }

  /**
   * Receives what is there, at most 64 KiB.
   *
   * @returns the bytes; empty at the end of the stream; `undefined` when there is nothing yet
   */
  receive(): Uint8Array<ArrayBuffer> | undefined {
    const data = new Uint8Array(65536);
    const got = Number(libc.recvfrom(this.fd, data, BigInt(data.length), 0, null, null));
    if (got < 0 && errno() === EAGAIN) return undefined;
    return data.subarray(0, check(got, "Cannot receive from a TCP socket"));
  }

  /** Sends the end of the stream and keeps the socket open for reading. */
  endSending(): void {
    libc.shutdown(this.fd, SHUT_WR);
  }

  /** Closes with a reset instead of the orderly way, so that no state is left in the kernel. */
  reset(): void {
    setOption(this.fd, SOL_SOCKET, SO_LINGER, 1, 0);
    this.close();
  }
}

/** A listening TCP socket. */
export class TcpListener extends Socket {
  /** Takes a connection that is waiting, `undefined` when there is none. */
  accept(): TcpSocket | undefined {
    const fd = libc.accept4(this.fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && errno() === EAGAIN) return undefined;
    return new TcpSocket(check(fd, "Cannot accept a TCP connection"));
  }
}

/** A bound UDP socket. */
export class UdpSocket extends Socket {
  /** Sends one datagram, to the connected address when none is given. */
  send(data: Uint8Array<ArrayBuffer>, to?: Endpoint): void {
    const address = to === undefined ? null : packAddress(to);
    check(
      libc.sendto(
        this.fd,
        data,
        BigInt(data.length),
        MSG_NOSIGNAL,
        address,
        address?.length ?? 0,
      ),
      to === undefined ? "Cannot send a datagram" : `Cannot send to ${formatEndpoint(to)}`,
    );
  }

  /**
   * Receives one datagram, `undefined` when there is none yet.
   *
   * @throws {LinuxError} `ECONNREFUSED` on a connected socket whose datagram nobody wanted
   */
  receive(): { data: Uint8Array<ArrayBuffer>; from: Endpoint } | undefined {
    const data = new Uint8Array(65536);
    const from = new Uint8Array(28);
    const length = new Uint8Array(new Uint32Array([from.length]).buffer);
    const got = Number(libc.recvfrom(this.fd, data, BigInt(data.length), 0, from, length));
    if (got < 0 && errno() === EAGAIN) return undefined;
    const size = check(got, "Cannot receive a datagram");
    return { data: data.subarray(0, size), from: unpackAddress(from) };
  }

  /**
   * Fixes the other end: only its datagrams are received, and what ICMP says about them (nobody
   * there, no way there) becomes an error of a later call.
   */
  connect(to: Endpoint): void {
    const address = packAddress(to);
    if (familyOf(to.address) === AF_INET) setOption(this.fd, SOL_IP, IP_RECVERR, 1);
    else setOption(this.fd, SOL_IPV6, IPV6_RECVERR, 1);
    check(
      libc.connect(this.fd, address, address.length),
      `Cannot connect a UDP socket to ${formatEndpoint(to)}`,
    );
  }
}

function createSocket(address: string, type: number): number {
  const family = familyOf(address);
  const flags = type | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = check(libc.socket(family, flags, 0), "Cannot create a socket");
  if (family === AF_INET6) setOption(fd, SOL_IPV6, IPV6_V6ONLY, 1);
  return fd;
}

function bindSocket(fd: number, to: Endpoint): void {
  const packed = packAddress(to);
  check(libc.bind(fd, packed, packed.length), `Cannot bind to ${formatEndpoint(to)}`);
}

/** Runs the work and closes the socket when it throws. */
function orClose<T extends Socket>(socket: T, work: (socket: T) => void): T {
  try {
    work(socket);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/**
 * Listens for TCP connections in the thread's network namespace. An IPv6 listener takes IPv6 only.
 *
 * @param at address (`0.0.0.0` and `::` for all) and port (0 for a free one)
 * @param shared whether others may listen there, too, each for a part of the connections
 * @throws {LinuxError} for example `EADDRINUSE`
 */
export function listenTcp(at: Endpoint, backlog = 128, shared = false): TcpListener {
  return orClose(new TcpListener(createSocket(at.address, SOCK_STREAM)), (socket) => {
    setOption(socket.fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (shared) setOption(socket.fd, SOL_SOCKET, SO_REUSEPORT, 1);
    bindSocket(socket.fd, at);
    check(libc.listen(socket.fd, backlog), `Cannot listen on ${formatEndpoint(at)}`);
  });
}

/**
 * Creates an unconnected TCP socket in the thread's network namespace, with the thread's
 * file-system user as its owner.
 *
 * @param forAddress any address of the wanted family
 * @param source address and port to bind to
 */
export function createTcpSocket(forAddress: string, source?: Endpoint): TcpSocket {
  return orClose(new TcpSocket(createSocket(forAddress, SOCK_STREAM)), (socket) => {
    if (source === undefined) return;
    setOption(socket.fd, SOL_SOCKET, SO_REUSEADDR, 1);
    bindSocket(socket.fd, source);
  });
}

/**
 * Starts to connect a TCP socket and does not wait: when it becomes writable, call
 * {@linkcode TcpSocket.finishConnect}.
 *
 * @throws {LinuxError} when it fails at once, for example `ENETUNREACH`
 */
export function startTcpConnect(socket: TcpSocket, to: Endpoint): void {
  const address = packAddress(to);
  const result = libc.connect(socket.fd, address, address.length);
  if (result === 0) return;
  const error = errno();
  // With many threads the runtime's own waiting now and then writes EAGAIN or EPIPE over the number
  // before it is read: once in some 100,000 connections, which went on all the same.
  if (error !== EINPROGRESS && tcpState(socket) === TCP_CLOSE) {
    throw new LinuxError(`Cannot connect to ${formatEndpoint(to)}`, error);
  }
}

/** State of a TCP socket, the first byte of its `struct tcp_info`. */
function tcpState(socket: TcpSocket): number {
  const [info, length] = [new Uint8Array(1), new Uint8Array(Uint32Array.of(1).buffer)];
  if (libc.getsockopt(socket.fd, SOL_TCP, TCP_INFO, info, length) !== 0) return TCP_CLOSE;
  return info[0]!;
}

/**
 * Connects and waits for it.
 *
 * @throws {LinuxError} when the connection is refused or cannot be made
 * @throws {SocketTimeout} when nothing answers in `timeoutMs`
 */
export function connectTcp(
  to: Endpoint,
  options: { readonly source?: Endpoint; readonly timeoutMs: number },
): TcpSocket {
  return orClose(createTcpSocket(to.address, options.source), (socket) => {
    startTcpConnect(socket, to);
    socket.wait(options.timeoutMs, { write: true });
    socket.finishConnect();
  });
}

/** Binds a UDP socket in the thread's network namespace; port 0 takes a free one. */
export function bindUdp(at: Endpoint): UdpSocket {
  return orClose(new UdpSocket(createSocket(at.address, SOCK_DGRAM)), (socket) => {
    setOption(socket.fd, SOL_SOCKET, SO_REUSEADDR, 1);
    bindSocket(socket.fd, at);
  });
}

/**
 * Runs `work` with another file-system user: netfilter's owner match compares the file-system UID
 * that the creating thread had when it made the socket. Only this thread changes, and only while
 * `work`, which must not await, runs. Needs root (in its user namespace).
 *
 * @throws {Error} when the kernel does not let this thread become that user
 */
export function withFileSystemUser<T>(uid: number, work: () => T): T {
  const before = libc.setfsuid(uid) >>> 0;
  try {
    // setfsuid never fails visibly: asking with an impossible UID returns the one in force.
    const now = libc.setfsuid(0xffffffff) >>> 0;
    if (now !== uid) {
      throw new Error(`Cannot become file-system user ${uid}: not root, or not mapped`);
    }
    return work();
  } finally {
    libc.setfsuid(before);
  }
}
