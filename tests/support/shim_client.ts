/**
 * The shim's end of the agent's socket for calls, inside of the test: whole requests, and whatever a
 * broken or hostile one could send.
 */
import { EAGAIN } from "../../src/linux/errno.ts";
import {
  FileDescriptor,
  lastErrno,
  libc,
  loadFunctions,
  openForReading,
} from "../../src/linux/libc.ts";
import { formatRequest, parseAnswer, type ShimAnswer } from "../../src/shim/words.ts";

const calls = loadFunctions({
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
});

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** A connection to the agent. */
export class ShimClient implements Disposable {
  readonly #socket: FileDescriptor;
  #received: Uint8Array<ArrayBuffer> = new Uint8Array();

  /** Connects; throws when nobody listens. */
  constructor(path: string) {
    const address = new Uint8Array(110);
    address[0] = 1;
    address.set(new TextEncoder().encode(path), 2);
    this.#socket = new FileDescriptor(libc().socket(1, 1 | 0o2004000, 0));
    if (libc().connect(this.#socket.number, address, address.length) === -1) {
      this.#socket[Symbol.dispose]();
      throw new Error(`Cannot connect to ${path}`);
    }
  }

  /** Sends bytes, with open files if any; tells how many bytes were taken. */
  send(bytes: Uint8Array<ArrayBuffer>, ...files: readonly FileDescriptor[]): number {
    const control = new Uint8Array(new ArrayBuffer(16 + 8 * Math.ceil(files.length / 2)));
    const view = new DataView(control.buffer);
    view.setBigUint64(0, BigInt(16 + 4 * files.length), true);
    view.setInt32(8, 1, true);
    view.setInt32(12, 1, true);
    files.forEach(({ number }, i) => view.setInt32(16 + 4 * i, number, true));
    const address = (buffer: Uint8Array<ArrayBuffer>) =>
      BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer)));
    const header = new BigUint64Array(new ArrayBuffer(72));
    const message = new Uint8Array(header.buffer);
    header[2] = address(message) + 56n;
    header[3] = 1n;
    if (files.length > 0) {
      header[4] = address(control);
      header[5] = BigInt(control.length);
    }
    header[7] = address(bytes);
    header[8] = BigInt(bytes.length);
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    return Number(calls.sendmsg(this.#socket.number, message, flags));
  }

  /** Sends all bytes, as the agent reads them, until it closes the connection. */
  async sendAll(bytes: Uint8Array<ArrayBuffer>, ...files: FileDescriptor[]): Promise<void> {
    let sent = this.send(bytes, ...files);
    while (sent >= 0 && sent < bytes.length) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const more = this.send(bytes.slice(sent));
      if (more < 0 && lastErrno() !== EAGAIN) return;
      sent += Math.max(0, more);
    }
  }

  /** Receives until the agent closes the connection; the bytes of the answer. */
  async receiveAll(milliseconds = 5000): Promise<Uint8Array<ArrayBuffer>> {
    const end = performance.now() + milliseconds;
    const part = new Uint8Array(64 * 1024);
    while (performance.now() < end) {
      const count = libc().recv(this.#socket.number, part, BigInt(part.length), MSG_DONTWAIT);
      if (count === 0) return this.#received;
      if (count > 0) {
        const grown = new Uint8Array(this.#received.length + count);
        grown.set(this.#received);
        grown.set(part.subarray(0, count), this.#received.length);
        this.#received = grown;
      } else await new Promise((resolve) => setTimeout(resolve, 1));
    }
    throw new Error(`The agent has not closed the connection for ${milliseconds} ms`);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }
}

/** A call as a container runtime makes it. */
export interface ShimCall {
  readonly environment: Readonly<Record<string, string>>;
  readonly input?: string;
}

/** Makes a call over the socket, as the shim does, and returns the agent's answer. */
export async function callAgent(path: string, call: ShimCall): Promise<ShimAnswer> {
  using client = new ShimClient(path);
  const { CNI_NETNS: netns = "" } = call.environment;
  using cleanup = new DisposableStack();
  const files = netns === "" ? [] : [cleanup.use(openForReading(netns))];
  await client.sendAll(requestOf(call, files.length > 0), ...files);
  return parseAnswer(await client.receiveAll());
}

/** The bytes of a call. */
export function requestOf(call: ShimCall, sendsNamespace = false): Uint8Array<ArrayBuffer> {
  return formatRequest({
    sendsNamespace,
    environment: Object.entries(call.environment),
    input: new TextEncoder().encode(call.input ?? ""),
  });
}
