/** One connection of the shim: the call that comes in over it, and the answer that goes out. */
import {
  parseRequest,
  parseRequestHead,
  requestHeadSize,
  type ShimRequest,
  WordsError,
} from "../../src/shim/words.ts";
import type { FileDescriptor } from "../../src/linux/libc.ts";
import {
  isPeerGone,
  networkNamespaceOfPeer,
  receiveFirst,
  receiveMore,
  sendSome,
} from "../../src/linux/unix_stream.ts";
import type { SocketBudget } from "./socket_budget.ts";

/** Most bytes of a usual call, which arrive at once. */
const firstPartBytes = 64 * 1024;

/** Shared by all connections: what a first part holds is copied before another one is read. */
const scratch = new Uint8Array(firstPartBytes);

/** A connection of the shim. */
export class CallConnection implements Disposable {
  /** When it was taken, on the clock of `performance.now()`. */
  readonly started = performance.now();
  /** The open namespace that came with the call. */
  #namespace: FileDescriptor | undefined;
  #request: Uint8Array<ArrayBuffer> | undefined;
  #received = 0;
  #answer: Uint8Array<ArrayBuffer> | undefined;
  #held = 0;
  #disposed = false;

  /** @param budget Memory that all connections share. */
  constructor(private readonly socket: FileDescriptor, private readonly budget: SocketBudget) {}

  /** Number of the socket. */
  get descriptor(): number {
    return this.socket.number;
  }

  /** The pod's network namespace, if it was sent; it is closed with the connection. */
  get namespace(): FileDescriptor | undefined {
    // The number of a closed file soon stands for another one.
    return this.#disposed ? undefined : this.#namespace;
  }

  /** Opens the network namespace that the shim runs in, which is the host's. */
  openCallersNamespace(): FileDescriptor {
    return networkNamespaceOfPeer(this.socket);
  }

  /** Whether nobody waits for the answer any more. */
  get isPeerGone(): boolean {
    return this.#disposed || isPeerGone(this.socket);
  }

  /**
   * Receives what there is of the call.
   *
   * @returns The call, or `undefined` while it is not complete.
   * @throws {WordsError} when these are not our words, more than we take, or cut off.
   * @throws {OverloadError} when all connections together hold too much.
   * @throws {LinuxError} when the connection is broken.
   */
  receive(): ShimRequest | undefined {
    if (this.#request === undefined && !this.#receiveFirst()) return undefined;
    const request = this.#request!;
    while (this.#received < request.length) {
      const length = receiveMore(this.socket, request.subarray(this.#received));
      if (length === undefined) return undefined;
      if (length === 0) throw new WordsError("The call ended before it was complete");
      this.#received += length;
    }
    const call = parseRequest(request);
    if (call.sendsNamespace !== (this.#namespace !== undefined)) {
      throw new WordsError("The call's flags do not fit the open files that came with it");
    }
    return call;
  }

  /** Whether the head is there, and room for the rest. */
  #receiveFirst(): boolean {
    const part = receiveFirst(this.socket, scratch);
    if (part === undefined) return false;
    this.#namespace = part.file;
    // The shim sends its head in one piece.
    if (part.length < requestHeadSize) throw new WordsError("The call ended within its head");
    const { length } = parseRequestHead(scratch.subarray(0, part.length));
    if (part.length > length) throw new WordsError("More came than the call announces");
    this.#hold(length);
    this.#request = new Uint8Array(length);
    this.#request.set(scratch.subarray(0, part.length));
    this.#received = part.length;
    return true;
  }

  /**
   * Sends the answer, or as much as fits.
   *
   * @param answer Only the first time.
   * @returns Whether all of it is sent.
   * @throws {LinuxError} when the other end is gone.
   * @throws {OverloadError} as {@linkcode receive}.
   */
  send(answer?: Uint8Array<ArrayBuffer>): boolean {
    let rest = answer ?? this.#answer ?? new Uint8Array();
    while (rest.length > 0) {
      const length = sendSome(this.socket, rest);
      if (length === 0) break;
      rest = rest.subarray(length);
    }
    if (rest.length === 0) return true;
    this.#request = undefined;
    this.#hold(rest.length);
    this.#answer = rest;
    return false;
  }

  #hold(bytes: number): void {
    this.budget.resize(this.#held, bytes);
    this.#held = bytes;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#hold(0);
    this.#request = this.#answer = undefined;
    this.#namespace?.[Symbol.dispose]();
    this.socket[Symbol.dispose]();
  }
}
