/**
 * A gRPC client for unary calls over a Unix socket, just enough to drive a container runtime:
 * HTTP/2 by fetch, messages by protobufjs. (The usual gRPC library needs parts of `node:http2` that
 * Deno 2.6 does not have.)
 */
import protobuf from "protobufjs";

/** Calls a container runtime's RuntimeService. */
export class CriClient implements Disposable {
  readonly #http: Deno.HttpClient;
  readonly #service: protobuf.Service;

  /** @param socket Path of the runtime's Unix socket; it may appear later. */
  constructor(socket: string) {
    this.#http = Deno.createHttpClient({
      proxy: { transport: "unix", path: socket },
      http1: false,
      http2: true,
    });
    this.#service = new protobuf.Root()
      .loadSync(new URL("cri.proto", import.meta.url).pathname, { keepCase: true })
      .lookupService("runtime.v1.RuntimeService");
  }

  /**
   * Calls a method.
   *
   * @throws {Error} with the runtime's message when it answers with a gRPC status other than 0.
   */
  async call(method: string, request: Record<string, unknown>): Promise<Record<string, unknown>> {
    const { requestType, responseType } = this.#service.methods[method]!;
    const requestMessage = this.#service.root.lookupType(`runtime.v1.${requestType}`);
    const message = requestMessage.encode(requestMessage.fromObject(request)).finish();
    const frame = new Uint8Array(5 + message.length);
    new DataView(frame.buffer).setUint32(1, message.length);
    frame.set(message, 5);
    const response = await fetch(`http://localhost/runtime.v1.RuntimeService/${method}`, {
      method: "POST",
      client: this.#http,
      headers: { "content-type": "application/grpc", "te": "trailers" },
      body: frame,
      signal: AbortSignal.timeout(60_000),
    });
    const body = new Uint8Array(await response.arrayBuffer());
    // An error arrives without a message, its status in the only header block.
    if (body.length < 5) {
      const reason = decodeURIComponent(response.headers.get("grpc-message") ?? "no message");
      throw new Error(`${method}: gRPC status ${response.headers.get("grpc-status")}: ${reason}`);
    }
    const responseMessage = this.#service.root.lookupType(`runtime.v1.${responseType}`);
    return responseMessage.toObject(responseMessage.decode(body.subarray(5)), {
      longs: Number,
      defaults: true,
    });
  }

  /** Closes the connection. */
  close(): void {
    this.#http.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
