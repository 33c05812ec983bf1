/**
 * A server that keeps its clients busy, in a process of its own so that it never waits for theirs.
 * Arguments: files with its certificate and its key. Prints the port for TLS, and another where it
 * shakes hands for ever. What it does is the request's path; a list is answered rightly.
 */
const [certificate = "", key = ""] = Deno.args;
const encoder = new TextEncoder();

type Send = (text: string) => Promise<void>;

const json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const chunked = `${json}transfer-encoding: chunked\r\n\r\n`;

async function forEver(send: Send, text: string): Promise<never> {
  const block = text.repeat(Math.ceil(65_536 / text.length));
  for (;;) await send(block);
}

async function slowly(send: Send, text: string): Promise<void> {
  for (const character of text) {
    await send(character);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** An event of a watch, as one chunk. */
function event(name: string): string {
  const object = {
    kind: "Pod",
    apiVersion: "v1",
    metadata: { namespace: "demo", name, uid: name, resourceVersion: "7" },
    spec: { containers: [{ name: "app" }] },
  };
  const line = `${JSON.stringify({ type: "ADDED", object })}\n`;
  return `${line.length.toString(16)}\r\n${line}\r\n`;
}

const behaviours: Readonly<Record<string, (send: Send) => Promise<unknown>>> = {
  "continue": (send) => forEver(send, "HTTP/1.1 100 Continue\r\n\r\n"),
  "early-hints": (send) => forEver(send, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
  "headers": async (send) => {
    await send(json);
    await forEver(send, "a: b\r\n");
  },
  "one-header": async (send) => {
    await send(`${json}a: `);
    await forEver(send, "b");
  },
  "slow-headers": (send) => slowly(send, `${json}${"a: b\r\n".repeat(1000)}`),
  "slow-body": async (send) => {
    await send(`${json}content-length: 100000\r\n\r\n`);
    await slowly(send, " ".repeat(100_000));
  },
  "tiny-chunks": async (send) => {
    await send(chunked);
    await forEver(send, "1\r\n \r\n");
  },
  "tiny-chunks-4-mib": async (send) => {
    await send(chunked);
    for (let kib = 0; kib < 4096; kib++) await send("1\r\n \r\n".repeat(1024));
    await send("0\r\n\r\n");
  },
  "chunk-header": async (send) => {
    await send(`${chunked}1;`);
    await forEver(send, "x");
  },
  "chunk-headers": async (send) => {
    await send(chunked);
    await forEver(send, `1;${"x".repeat(900)}\r\n \r\n`);
  },
  "endless-body": async (send) => {
    await send(`${json}\r\n`);
    await forEver(send, " ");
  },
  "refusal": async (send) => {
    await send("HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\n\r\n");
    await forEver(send, " ");
  },
  "events": async (send) => {
    await send(chunked);
    await forEver(send, event("a"));
  },
  "empty-lines": async (send) => {
    await send(chunked);
    await forEver(send, "1\r\n\n\r\n");
  },
  "endless-line": async (send) => {
    await send(chunked);
    await forEver(send, `400\r\n${"x".repeat(1024)}\r\n`);
  },
  "endless-line-in-tiny-chunks": async (send) => {
    await send(chunked);
    await forEver(send, "1\r\nx\r\n");
  },
};

async function serve(connection: Deno.TlsConn): Promise<void> {
  const buffer = new Uint8Array(16_384);
  const length = await connection.read(buffer) ?? 0;
  const request = new TextDecoder().decode(buffer.subarray(0, length));
  const [, name = "", isList] = /^GET \/([a-z0-9-]+)(\?(?:[^ ]*&)?limit=)?/.exec(request) ?? [];
  const send = async (text: string) => {
    for (let rest = encoder.encode(text); rest.length > 0;) {
      rest = rest.subarray(await connection.write(rest));
    }
  };
  if (isList === undefined) await behaviours[name]?.(send);
  else {
    const list = '{"metadata":{"resourceVersion":"5"},"items":[]}';
    await send(`${json}content-length: ${list.length}\r\n\r\n${list}`);
  }
}

/** Begins a handshake message of 16 KiB that never ends. */
async function shakeForEver(connection: Deno.Conn): Promise<void> {
  await connection.write(Uint8Array.of(0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc));
  for (;;) {
    await connection.write(Uint8Array.of(0));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const tls = Deno.listenTls({
  hostname: "127.0.0.1",
  port: 0,
  cert: Deno.readTextFileSync(certificate),
  key: Deno.readTextFileSync(key),
  alpnProtocols: ["http/1.1"],
});
const tcp = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log(JSON.stringify({ tls: tls.addr.port, handshake: tcp.addr.port }));

async function accept<T extends Deno.Conn>(
  listener: { accept(): Promise<T> },
  serve: (connection: T) => Promise<void>,
): Promise<void> {
  for (;;) {
    // A client that goes away in the middle is what this is about.
    serve(await listener.accept()).catch(() => {});
  }
}

await Promise.all([accept(tls, serve), accept(tcp, shakeForEver)]);
