/**
 * Netlink sockets, synchronous. Facts: netlink(7), `linux/netlink.h`. Everything needs
 * `--allow-ffi` and speaks to the network namespace that the calling thread is in when the socket
 * is opened.
 */
import { EAGAIN, EMSGSIZE, ENOBUFS, LinuxError } from "./errno.ts";
import { checked, lastErrno, libc } from "./libc.ts";
import {
  findAttribute,
  HEADER_LENGTH,
  LITTLE_ENDIAN,
  type Message,
  NLM_F_ACK,
  parseAttributes,
  parseMessages,
  readText,
  readU16,
  readU32,
} from "./netlink_message.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

const AF_NETLINK = 16;
const SOCKADDR_NL_LENGTH = 12;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVTIMEO = 20;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;

/** Largest datagram that the kernel makes for a dump is 32 KiB. */
const RECEIVE_BYTES = 65536;
const TIMEOUT_SECONDS = 5;
/** Below this the default send buffer of every Linux system is large enough. */
const DEFAULT_SEND_BYTES = 100_000;

/** One answer to a request of a batch: errno 0 is an acknowledgement. */
export interface Acknowledgement {
  readonly sequence: number;
  readonly errno: number;
  /** The kernel's own words, when it has any. */
  readonly detail: string | undefined;
}

/** A dump was interrupted by changes each time it was tried. */
const DUMP_TRIES = 10;
/**
 * Largest answer to a dump that is taken. Whoever may change a pod's network can fill it with
 * objects, and reading them all would cost the node its memory; our own rules never have half as much.
 */
const MAX_DUMP_BYTES = 8 * 1024 * 1024;

/** Where datagrams arrive, of all sockets: each is read or copied before the next is asked for. */
let arrivals: Uint8Array<ArrayBuffer> | undefined;

/** A netlink socket; use it in a `using` block. */
export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  readonly #buffer = arrivals ??= new Uint8Array(RECEIVE_BYTES);
  #sequence = 1;

  /**
   * @param protocol {@linkcode NETLINK_ROUTE} or {@linkcode NETLINK_NETFILTER}.
   * @throws {LinuxError} when the kernel has no such protocol.
   */
  constructor(protocol: number) {
    this.#fd = checked(
      "Cannot open a netlink socket",
      () => libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol),
    );
    // A process of the pod that may administer its network could answer in the kernel's place; from
    // now on the kernel refuses to deliver what is not its own.
    const kernel = new Uint8Array(SOCKADDR_NL_LENGTH);
    new Uint16Array(kernel.buffer)[0] = AF_NETLINK;
    libc().connect(this.#fd, kernel, SOCKADDR_NL_LENGTH);
    // Old kernels know neither option: their errors come without words and with a copy of the request.
    this.#setOption(SOL_NETLINK, NETLINK_EXT_ACK, 1);
    this.#setOption(SOL_NETLINK, NETLINK_CAP_ACK, 1);
    const timeout = new DataView(new ArrayBuffer(16));
    timeout.setBigInt64(0, BigInt(TIMEOUT_SECONDS), LITTLE_ENDIAN);
    libc().setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, new Uint8Array(timeout.buffer), 16);
  }

  [Symbol.dispose](): void {
    libc().close(this.#fd);
  }

  /** Returns a sequence number that this socket has not used yet. */
  nextSequence(): number {
    return this.#sequence++;
  }

  /**
   * Sends one request and returns the messages of the answer: all until the acknowledgement when the
   * request asks for one (`NLM_F_ACK`), else those that come first, which is one.
   *
   * @param attempt Begins the message of an error.
   * @throws {LinuxError} when the kernel refuses or does not answer in time.
   */
  request(attempt: string, request: Uint8Array<ArrayBuffer>): Message[] {
    this.#send(attempt, request);
    const sequence = readU32(request, 8);
    const isAcknowledged = (readU16(request, 6) & NLM_F_ACK) !== 0;
    const answers: Message[] = [];
    for (;;) {
      for (const message of this.#receive(attempt)) {
        if (message.sequence !== sequence) continue;
        if (message.type === NLMSG_ERROR) {
          const { errno, detail } = readAcknowledgement(message);
          if (errno !== 0) throw new LinuxError(attempt, errno, detail);
          return answers;
        }
        answers.push(message);
      }
      if (!isAcknowledged && answers.length > 0) return answers;
    }
  }

  /**
   * Sends a dump request and returns all its messages. A dump that the kernel marks as interrupted
   * by a change is asked for again.
   *
   * @param build Builds the request with the given sequence number.
   * @throws {LinuxError} when the kernel refuses, does not answer in time, never gave a consistent
   * answer, or has more than 8 MiB to tell (`EMSGSIZE`).
   */
  dump(attempt: string, build: (sequence: number) => Uint8Array<ArrayBuffer>): Message[] {
    for (let tries = 0; tries < DUMP_TRIES; tries++) {
      const sequence = this.nextSequence();
      this.#send(attempt, build(sequence));
      const answers = this.#receiveDump(attempt, sequence);
      if (answers !== undefined) return answers;
    }
    throw new LinuxError(attempt, EAGAIN, `Changed during each of ${DUMP_TRIES} readings`);
  }

  #receiveDump(attempt: string, sequence: number): Message[] | undefined {
    const answers: Message[] = [];
    let interrupted = false;
    let bytes = 0;
    for (;;) {
      // The buffer is used again for the next part, so each part is copied.
      const part = this.#receiveBytes(attempt).slice();
      bytes += part.length;
      if (bytes > MAX_DUMP_BYTES) {
        throw new LinuxError(
          attempt,
          EMSGSIZE,
          `There is more than ${MAX_DUMP_BYTES} bytes to read; remove what fills this namespace`,
        );
      }
      for (const message of parseMessages(part)) {
        if (message.sequence !== sequence) continue;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const { errno, detail } = readAcknowledgement(message);
          if (errno !== 0) throw new LinuxError(attempt, errno, detail);
          return interrupted ? undefined : answers;
        }
        answers.push(message);
      }
    }
  }

  /**
   * Sends several messages in one datagram and returns the acknowledgements and errors that came.
   * For protocols that work off the whole datagram before send(2) returns, as nfnetlink does.
   *
   * @throws {LinuxError} when sending fails, or when nothing at all came back.
   */
  batch(attempt: string, messages: Uint8Array<ArrayBuffer>): Acknowledgement[] {
    this.#send(attempt, messages);
    const answers: Acknowledgement[] = [];
    for (;;) {
      const length = libc().recv(
        this.#fd,
        this.#buffer,
        BigInt(RECEIVE_BYTES),
        MSG_TRUNC | MSG_DONTWAIT,
      );
      if (length === -1) {
        const errno = lastErrno();
        // ENOBUFS: so many errors that some did not fit; those that did follow.
        if (errno === ENOBUFS) continue;
        if (errno === EAGAIN && answers.length > 0) return answers;
        throw new LinuxError(attempt, errno, "The kernel did not answer");
      }
      for (const message of parseMessages(this.#buffer.subarray(0, length))) {
        if (message.type !== NLMSG_ERROR) continue;
        answers.push({ sequence: message.sequence, ...readAcknowledgement(message) });
      }
    }
  }

  #send(attempt: string, bytes: Uint8Array<ArrayBuffer>): void {
    if (bytes.length > DEFAULT_SEND_BYTES) this.#growBuffers(bytes.length);
    checked(attempt, () => libc().send(this.#fd, bytes, BigInt(bytes.length), 0));
  }

  #growBuffers(bytes: number): void {
    // The FORCE forms go beyond the system's limit but need CAP_NET_ADMIN in the initial user namespace.
    if (this.#setOption(SOL_SOCKET, SO_SNDBUFFORCE, bytes * 2) === -1) {
      this.#setOption(SOL_SOCKET, SO_SNDBUF, bytes * 2);
    }
    this.#setOption(SOL_SOCKET, SO_RCVBUFFORCE, bytes * 2);
  }

  #receive(attempt: string): Message[] {
    return parseMessages(this.#receiveBytes(attempt).slice());
  }

  #receiveBytes(attempt: string): Uint8Array<ArrayBuffer> {
    const length = checked(
      attempt,
      () => libc().recv(this.#fd, this.#buffer, BigInt(RECEIVE_BYTES), MSG_TRUNC),
    );
    if (length > RECEIVE_BYTES) {
      throw new LinuxError(attempt, EMSGSIZE, `The kernel's answer has ${length} bytes`);
    }
    return this.#buffer.subarray(0, length);
  }

  #setOption(level: number, option: number, value: number): number {
    return libc().setsockopt(
      this.#fd,
      level,
      option,
      new Uint8Array(new Int32Array([value]).buffer),
      4,
    );
  }
}

/** Reads `struct nlmsgerr`, or the number at the end of a dump, and the kernel's words after it. */
function readAcknowledgement(message: Message): { errno: number; detail: string | undefined } {
  const { payload } = message;
  const errno = payload.length >= 4 ? -(readU32(payload, 0) | 0) : 0;
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno, detail: undefined };
  // With NETLINK_CAP_ACK only the header of the request is repeated before the attributes.
  const after = message.type === NLMSG_ERROR ? 4 + HEADER_LENGTH : 4;
  const words = findAttribute(parseAttributes(payload, after), NLMSGERR_ATTR_MSG);
  return { errno, detail: words && readText(words) };
}
