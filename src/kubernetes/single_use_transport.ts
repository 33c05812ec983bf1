/**
 * HTTP with a connection for each request, without `fetch`: V8 would have to compile what that brings
 * besides, such as streams and redirects, 2 ms more in each start of a program that asks once and ends.
 */
import type { Answer } from "./answer.ts";
import { closeQuietly, connect, type Connection, writeAll } from "./connect.ts";
import { bodyPieces, ByteReader, type Head, readHead } from "./http1.ts";
import type { ClusterAccess } from "./kubeconfig.ts";
import type { Proxy } from "./proxy.ts";
import type { ServerUrl, Transport, TransportRequest } from "./transport.ts";
import { Turns } from "./turns.ts";

/** One connection for each request; it ends with the answer. */
export class SingleUseTransport implements Transport {
  /** @param byNode Whether Node's TLS is needed. */
  constructor(
    private readonly access: ClusterAccess,
    private readonly server: ServerUrl,
    readonly proxy: Proxy | undefined,
    private readonly byNode: boolean,
  ) {}

  /** Sends one request. */
  async send(
    { target, headers, method = "GET", body }: TransportRequest,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { access, server } = this;
    const connection = this.byNode
      ? await (await import("./node_connection.ts")).connectWithNode(access, server, signal)
      : await connect(access, server, this.proxy, signal);
    const end = () => closeQuietly(connection);
    signal.addEventListener("abort", end, { once: true });
    try {
      let head = `${method} ${server.basePath}${target} HTTP/1.1\r\n` +
        `host: ${server.authority}\r\nconnection: close\r\n`;
      if (body !== undefined) {
        head += `content-length: ${new TextEncoder().encode(body).length}\r\n`;
      }
      for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
      await writeAll(connection, `${head}\r\n${body ?? ""}`);
      const reader = new ByteReader(connection, new Turns(signal));
      return new SingleUseAnswer(await readHead(reader), reader, connection, signal, end);
    } catch (error) {
      signal.removeEventListener("abort", end);
      end();
      signal.throwIfAborted();
      throw error;
    }
  }

  close(): void {}
}

class SingleUseAnswer implements Answer {
  readonly status: number;
  readonly headers: Head["headers"];

  constructor(
    private readonly head: Head,
    private readonly reader: ByteReader,
    private readonly connection: Connection,
    private readonly signal: AbortSignal,
    private readonly end: () => void,
  ) {
    this.status = head.status;
    this.headers = head.headers;
  }

  async *pieces(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    try {
      yield* bodyPieces(this.reader, this.head);
    } catch (error) {
      this.signal.throwIfAborted();
      throw error;
    } finally {
      this.discard();
    }
  }

  discard(): Promise<void> {
    this.signal.removeEventListener("abort", this.end);
    closeQuietly(this.connection);
    return Promise.resolve();
  }
}
