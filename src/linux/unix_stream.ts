/**
 * Unix stream sockets that pass open files along, which Deno's own cannot. Nothing here waits:
 * whoever has several connections learns from {@linkcode EventPoll} which of them can be used.
 *
 * All functions need `--allow-ffi`. Facts: unix(7), recvmsg(2), `asm-generic/socket.h`.
 */
import { EAGAIN, LinuxError } from "./errno.ts";
import { addressOf, checked, FileDescriptor, lastErrno, libc, loadFunctions } from "./libc.ts";

const symbols = {
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
} as const;

let library: Deno.DynamicLibrary<typeof symbols>["symbols"] | undefined;

function calls(): Deno.DynamicLibrary<typeof symbols>["symbols"] {
  return library ??= loadFunctions(symbols);
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_PEERCRED = 17;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SIOCGSKNS = 0x894cn;
/** Longest path with its NUL, `sun_path`. */
const PATH_BYTES = 108;
/** Connections that the kernel keeps until they are accepted; it takes no more than `somaxconn`. */
const BACKLOG = 4096;
const POLLHUP = 0x10;

/**
 * Listens at a path that is not there yet.
 *
 * @param path Path of the socket; who may connect follows from its folder and its mode.
 * @throws {LinuxError} when it is there (`EADDRINUSE`), or cannot be made.
 * @throws {RangeError} when the path is longer than a socket's can be.
 */
export function listenAt(path: string): FileDescriptor {
  const attempt = `Cannot listen at ${JSON.stringify(path)}`;
  const name = new TextEncoder().encode(path);
  if (name.length >= PATH_BYTES) {
    throw new RangeError(
      `${attempt}: The path has ${name.length} bytes, at most ${PATH_BYTES - 1} fit`,
    );
  }
  const address = new Uint8Array(2 + PATH_BYTES);
  new Uint16Array(address.buffer, 0, 1)[0] = AF_UNIX;
  address.set(name, 2);
  using cleanup = new DisposableStack();
  const socket = cleanup.use(
    new FileDescriptor(
      checked(
        attempt,
        () => libc().socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
      ),
    ),
  );
  checked(attempt, () => libc().bind(socket.number, address, address.length));
  checked(attempt, () => calls().listen(socket.number, BACKLOG));
  cleanup.move();
  return socket;
}

/**
 * Takes the next connection.
 *
 * @returns `undefined` when there is none.
 * @throws {LinuxError} when the kernel refuses, for example with `EMFILE`.
 */
export function acceptNext(listener: FileDescriptor): FileDescriptor | undefined {
  const number = calls().accept4(listener.number, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (number !== -1) return new FileDescriptor(number);
  return nothingYet("Cannot take a connection");
}

/** What {@linkcode receiveFirst} got. */
export interface FirstPart {
  /** Number of bytes in the buffer; 0 at the end of the stream. */
  readonly length: number;
  /** The open file that came with them. */
  readonly file?: FileDescriptor;
}

/**
 * `struct msghdr` with its one `struct iovec` behind it, both of 64-bit words. An array over a buffer
 * of its own is never moved, unlike small ones without.
 */
const header = new BigUint64Array(new ArrayBuffer(72));
/** Room for exactly one open file: the kernel closes what does not fit. */
const control = new Uint8Array(new ArrayBuffer(20));

/**
 * Receives the first bytes of a stream, and the open file that comes with them.
 *
 * @returns `undefined` when nothing has come yet.
 * @throws {LinuxError} when the connection is broken.
 */
export function receiveFirst(
  connection: FileDescriptor,
  buffer: Uint8Array<ArrayBuffer>,
): FirstPart | undefined {
  // Written anew each time, since the kernel changes the lengths.
  header.fill(0n);
  header[2] = BigInt(addressOf(header)) + 56n;
  header[3] = 1n;
  header[4] = BigInt(addressOf(control));
  header[5] = BigInt(control.length);
  header[7] = BigInt(addressOf(buffer));
  header[8] = BigInt(buffer.length);
  const message = new Uint8Array(header.buffer);
  const flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
  const length = Number(calls().recvmsg(connection.number, message, flags));
  if (length === -1) return nothingYet("Cannot receive a call");
  const view = new DataView(control.buffer);
  const hasFile = header[5] >= 20n && view.getUint32(8, true) === SOL_SOCKET &&
    view.getUint32(12, true) === SCM_RIGHTS;
  return hasFile ? { length, file: new FileDescriptor(view.getInt32(16, true)) } : { length };
}

/**
 * Receives further bytes; open files that came with them are closed by the kernel.
 *
 * @returns Their number, 0 at the end of the stream, `undefined` when there are none yet.
 * @throws {LinuxError} when the connection is broken.
 */
export function receiveMore(
  connection: FileDescriptor,
  buffer: Uint8Array<ArrayBuffer>,
): number | undefined {
  const length = libc().recv(connection.number, buffer, BigInt(buffer.length), MSG_DONTWAIT);
  return length === -1 ? nothingYet("Cannot receive the rest of a call") : length;
}

/**
 * Sends what fits.
 *
 * @returns The number of bytes that were sent, perhaps 0.
 * @throws {LinuxError} when the other end is gone.
 */
export function sendSome(connection: FileDescriptor, bytes: Uint8Array<ArrayBuffer>): number {
  const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  const length = libc().send(connection.number, bytes, BigInt(bytes.length), flags);
  return length === -1 ? nothingYet("Cannot send an answer") ?? 0 : length;
}

/** User at the other end of a connection, when it connected; 4294967295 when that cannot be told. */
export function peerUser(connection: FileDescriptor): number {
  // struct ucred: process, user, group.
  const credentials = new Uint32Array([0, 0xffffffff, 0xffffffff]);
  const length = new Uint8Array(new Uint32Array([credentials.byteLength]).buffer);
  const bytes = new Uint8Array(credentials.buffer);
  libc().getsockopt(connection.number, SOL_SOCKET, SO_PEERCRED, bytes, length);
  return credentials[1]!;
}

/** Tells whether the other end of a connection has been closed. */
export function isPeerGone(connection: FileDescriptor): boolean {
  const wanted = new Uint8Array(Int32Array.of(connection.number, 0).buffer);
  return libc().poll(wanted, 1n, 0) > 0 && ((wanted[6] ?? 0) & POLLHUP) !== 0;
}

/**
 * Opens the network namespace that the other end of an accepted connection was made in: a socket that
 * accept(2) returns belongs to the namespace of who connected. Needs `CAP_NET_ADMIN` there.
 *
 * @throws {LinuxError} when the kernel refuses, or is older than 4.10.
 */
export function networkNamespaceOfPeer(connection: FileDescriptor): FileDescriptor {
  const attempt = "Cannot open the network namespace of a connection's other end";
  return new FileDescriptor(checked(attempt, () => libc().ioctl(connection.number, SIOCGSKNS)));
}

function nothingYet(attempt: string): undefined {
  const errno = lastErrno();
  if (errno !== EAGAIN) throw new LinuxError(attempt, errno);
}
