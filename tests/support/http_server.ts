/**
 * A small HTTP/1.1 server over TLS, with its hands on the connection: it can stop answering, close
 * in the middle of a body or trickle, which a well-behaved server library does not allow.
 */
import type { KeyPairPem } from "./certificates.ts";
import { setNoDelay } from "./no_delay.ts";

/** A request; its body has come whole. */
export interface HttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  readonly body: string;
}

/** One request's way back to the client. */
export class Exchange {
  #connection: Deno.TlsConn;
  #gone: AbortController;

  constructor(connection: Deno.TlsConn, gone: AbortController) {
    this.#connection = connection;
    this.#gone = gone;
  }

  /** Aborted when the client has closed the connection or the server has. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Sends a whole answer. */
  async respond(
    status: number,
    headers: Readonly<Record<string, string>>,
    body: string | Uint8Array<ArrayBuffer>,
  ): Promise<void> {
    const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
    const head = headText(status, { ...headers, "content-length": String(bytes.length) });
    const message = new Uint8Array(head.length + bytes.length);
    new TextEncoder().encodeInto(head, message);
    message.set(bytes, head.length);
    await this.write(message);
  }

  /** Sends the head of an answer whose body follows in chunks. */
  async startChunked(status: number, headers: Readonly<Record<string, string>>): Promise<void> {
    await this.write(headText(status, { ...headers, "transfer-encoding": "chunked" }));
  }

  /** Sends one chunk; an empty text ends the body. */
  async chunk(text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text);
    await this.write(`${bytes.length.toString(16)}\r\n${text}\r\n`);
  }

  /** Sends bytes as they are. */
  async write(data: string | Uint8Array): Promise<void> {
    let rest = typeof data === "string" ? new TextEncoder().encode(data) : data;
    while (rest.length > 0 && !this.gone.aborted) {
      try {
        rest = rest.subarray(await this.#connection.write(rest));
      } catch {
        this.close();
      }
    }
  }

  /** Closes the connection, whatever was being said on it. */
  close(): void {
    if (this.#gone.signal.aborted) return;
    this.#gone.abort();
    try {
      this.#connection.close();
    } catch {
      // Closed by the other side already.
    }
  }
}

/** Answers one request; returning without an answer leaves the client waiting. */
export type HttpHandler = (request: HttpRequest, exchange: Exchange) => Promise<void>;

/** A running server. */
export class HttpServer implements AsyncDisposable {
  readonly hostname: string;
  readonly port: number;
  #listener: Deno.TlsListener;
  #handler: HttpHandler;
  #open = new Set<Exchange>();
  #work: Promise<void>;

  /**
   * Listens at once.
   *
   * @param hostname Address to listen on.
   * @param port Port to listen on, 0 for any free one.
   */
  constructor(
    handler: HttpHandler,
    identity: KeyPairPem,
    hostname: string,
    port: number,
  ) {
    this.#handler = handler;
    this.#listener = Deno.listenTls({
      hostname,
      port,
      cert: identity.certificate,
      key: identity.key,
      alpnProtocols: ["http/1.1"],
    });
    this.hostname = hostname;
    this.port = this.#listener.addr.port;
    setNoDelay(this.port);
    this.#work = this.#accept();
  }

  /** How many connections clients hold now. */
  get connections(): number {
    return this.#open.size;
  }

  /** Closes the connections of all clients; new ones are welcome. */
  closeConnections(): void {
    for (const exchange of this.#open) exchange.close();
  }

  /** Stops listening and closes every connection. */
  async close(): Promise<void> {
    try {
      this.#listener.close();
    } catch {
      // Closed before.
    }
    this.closeConnections();
    await this.#work;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #accept(): Promise<void> {
    const connections = new Set<Promise<void>>();
    while (true) {
      let connection: Deno.TlsConn;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (error instanceof Deno.errors.BadResource) break;
        continue;
      }
      const work = this.#serve(connection).finally(() => connections.delete(work));
      connections.add(work);
    }
    await Promise.allSettled(connections);
  }

  /** Serves one connection; between requests and during answers it listens for the client's end. */
  async #serve(connection: Deno.TlsConn): Promise<void> {
    const gone = new AbortController();
    const exchange = new Exchange(connection, gone);
    this.#open.add(exchange);
    let received: Uint8Array<ArrayBuffer> = new Uint8Array();
    const reading = (async () => {
      const chunk = new Uint8Array(16 * 1024);
      let answering = Promise.resolve();
      while (!gone.signal.aborted) {
        const count = await connection.read(chunk).catch(() => null);
        if (count === null) break;
        received = joined(received, chunk.subarray(0, count));
        for (;;) {
          const taken = takeRequest(received, this.port);
          if (taken === undefined) break;
          const { request } = taken;
          received = taken.rest;
          answering = answering.then(() => this.#handler(request, exchange))
            .catch(() => exchange.close());
        }
      }
      exchange.close();
      await answering;
    })();
    await reading;
    this.#open.delete(exchange);
  }
}

/** The first request of what was received, when it is there whole. */
function takeRequest(
  received: Uint8Array<ArrayBuffer>,
  port: number,
): { request: HttpRequest; rest: Uint8Array<ArrayBuffer> } | undefined {
  // Latin-1: one character for each byte.
  const end = new TextDecoder("latin1").decode(received).indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const head = parseHead(new TextDecoder().decode(received.subarray(0, end)), port);
  const length = Number(head.headers.get("content-length") ?? "0");
  const bodyEnd = end + 4 + length;
  if (received.length < bodyEnd) return undefined;
  const body = new TextDecoder().decode(received.subarray(end + 4, bodyEnd));
  return { request: { ...head, body }, rest: received.slice(bodyEnd) };
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function parseHead(text: string, port: number): Omit<HttpRequest, "body"> {
  const [first = "", ...lines] = text.split("\r\n");
  const [method = "", target = "/"] = first.split(" ");
  const headers = new Headers();
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return { method, url: new URL(target, `https://localhost:${port}`), headers };
}

function headText(status: number, headers: Readonly<Record<string, string>>): string {
  const lines = Object.entries({ date: new Date().toUTCString(), ...headers })
    .map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${reasonPhrases[status] ?? "Status"}\r\n${lines.join("")}\r\n`;
}

const reasonPhrases: Readonly<Record<number, string>> = {
  200: "OK",
  201: "Created",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  410: "Gone",
  415: "Unsupported Media Type",
  422: "Unprocessable Entity",
  429: "Too Many Requests",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

/** A TCP port at which nobody talks TLS; the port closes with `close()`. */
export interface BrokenListener extends Disposable {
  readonly port: number;
  close(): void;
}

/**
 * Listens on 127.0.0.1 without ever answering.
 *
 * @param behaviour `silent` accepts and says nothing; `reset` closes with the client's bytes unread,
 * which the kernel turns into a TCP reset.
 */
export function brokenListener(behaviour: "silent" | "reset"): BrokenListener {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.Conn>();
  (async () => {
    for await (const connection of listener) {
      open.add(connection);
      if (behaviour === "reset") {
        setTimeout(() => {
          open.delete(connection);
          connection.close();
        }, 5);
      }
    }
  })().catch(() => {});
  const close = () => {
    try {
      listener.close();
    } catch {
      // Closed before.
    }
    for (const connection of open) connection.close();
    open.clear();
  };
  return { port: listener.addr.port, close, [Symbol.dispose]: close };
}
