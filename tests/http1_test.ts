import assert from "node:assert/strict";
import fc from "fast-check";
import { ByteBuffer } from "../src/bytes/byte_buffer.ts";
import { bodyPieces, ByteReader, type ByteSource, readHead } from "../src/kubernetes/http1.ts";
import { Turns } from "../src/kubernetes/turns.ts";

/** Reads an answer that arrives in pieces of `size` bytes. */
async function read(text: string, size = 1): Promise<{ status: number; body: string }> {
  const reader = new ByteReader(source(text, size), new Turns(new AbortController().signal));
  const head = await readHead(reader);
  const body = new ByteBuffer();
  for await (const piece of bodyPieces(reader, head)) body.append(piece);
  return { status: head.status, body: new TextDecoder().decode(body.take()) };
}

function source(text: string, size: number): ByteSource {
  const bytes = new TextEncoder().encode(text);
  let at = 0;
  return {
    read: (buffer) => {
      if (at === bytes.length) return Promise.resolve(null);
      const piece = bytes.subarray(at, at + Math.min(size, buffer.length));
      buffer.set(piece);
      at += piece.length;
      return Promise.resolve(piece.length);
    },
  };
}

Deno.test("answers are read whatever the pieces in which they arrive", async (t) => {
  const rows: [string, string, number, string][] = [
    ["length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", 200, "hello"],
    ["length 0", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", 404, ""],
    ["until the end", "HTTP/1.0 200 OK\r\n\r\nhello", 200, "hello"],
    [
      "chunks",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
      200,
      "hello",
    ],
    ["no reason", "HTTP/1.1 503\r\ncontent-length: 1\r\n\r\nx", 503, "x"],
    [
      "after 100",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:1\r\n\r\ny",
      200,
      "y",
    ],
    ["bare line feeds", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok", 200, "ok"],
    ["no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""],
  ];
  for (const [name, text, status, body] of rows) {
    for (const size of [1, 7, 10_000]) {
      await t.step(`${name} in pieces of ${size}`, async () => {
        assert.deepEqual(await read(text, size), { status, body });
      });
    }
  }
});

Deno.test("what is not HTTP is refused", async (t) => {
  const rows: [string, string, RegExp][] = [
    ["nothing", "", /closed before the answer was complete/],
    ["half a head", "HTTP/1.1 200 OK\r\ncontent-le", /closed before the answer was complete/],
    ["another protocol", "SSH-2.0-OpenSSH\r\n", /does not begin like HTTP: "SSH-2.0-OpenSSH"/],
    ["another version", "HTTP/2 200\r\n\r\n", /does not begin like HTTP/],
    ["no status", "HTTP/1.1 OK\r\n\r\n", /does not begin like HTTP/],
    ["long line", `HTTP/1.1 200 ${"x".repeat(40_000)}`, /header line of more than 16384 bytes/],
    ["many headers", `HTTP/1.1 200 OK\r\n${"a: b\r\n".repeat(300)}`, /more than 200 header lines/],
    [
      "many interim answers",
      `${"HTTP/1.1 100 Continue\r\n\r\n".repeat(17)}HTTP/1.1 200 OK\r\n\r\n`,
      /after more than 16 interim answers/,
    ],
    [
      "long head",
      `HTTP/1.1 200 OK\r\n${`a: ${"b".repeat(1000)}\r\n`.repeat(100)}`,
      /head of more than 65536 bytes/,
    ],
    [
      "long heads of interim answers",
      `HTTP/1.1 103 Early Hints\r\n${`a: ${"b".repeat(1000)}\r\n`.repeat(10)}\r\n`.repeat(10),
      /head of more than 65536 bytes/,
    ],
    ["no colon", "HTTP/1.1 200 OK\r\nhello\r\n\r\n", /malformed header line: "hello"/],
  ];
  for (const [name, text, message] of rows) {
    await t.step(name, () => assert.rejects(read(text, 100), message));
  }
});

Deno.test("a body that breaks off or lies is an error", async (t) => {
  const chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
  const rows: [string, string, RegExp][] = [
    ["short", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", /closed before/],
    ["length", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nhello", /malformed content length/],
    ["two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nhello", /malformed content le/],
    ["chunk size", `${chunked}zz\r\n`, /malformed chunk size: "zz"/],
    ["huge chunk", `${chunked}fffffffff\r\n`, /malformed chunk size/],
    ["longer chunk", `${chunked}2\r\nhello\r\n`, /chunk longer than it says/],
    ["no last chunk", `${chunked}5\r\nhello\r\n`, /closed before/],
    ["long chunk header", `${chunked}5;${"x".repeat(2000)}\r\nhello\r\n`, /chunk header of more/],
    [
      "more chunk headers than body",
      `${chunked}${`1;${"x".repeat(900)}\r\ny\r\n`.repeat(100)}`,
      /far more chunk headers than body/,
    ],
    ["coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", /encoding "gzip, ch/],
  ];
  for (const [name, text, message] of rows) {
    await t.step(name, () => assert.rejects(read(text, 3), message));
  }
});

Deno.test("a body in chunks of one byte takes no more memory than its bytes", async () => {
  const body = "x".repeat(300_000);
  const wire = `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${
    "1\r\nx\r\n".repeat(body.length)
  }0\r\n\r\n`;
  const reader = new ByteReader(source(wire, 65_536), new Turns(new AbortController().signal));
  const head = await readHead(reader);
  let [pieces, bytes] = [0, 0];
  for await (const piece of bodyPieces(reader, head)) {
    pieces++;
    bytes += piece.length;
    // A piece that is a small part of a large buffer would keep all of it.
    assert(piece.buffer.byteLength <= Math.max(4096, 2 * piece.length), `${piece.length}`);
  }
  assert.equal(bytes, body.length);
  assert(pieces <= wire.length / 65_536 + 2, `${pieces} pieces`);
});

Deno.test("bytes are collected in linear time, in whatever pieces", () => {
  const buffer = new ByteBuffer();
  const piece = Uint8Array.of(7);
  const started = performance.now();
  for (let count = 0; count < 1_000_000; count++) buffer.append(piece);
  // Copied for each byte, it would take minutes.
  assert(performance.now() - started < 5000);
  assert.equal(buffer.length, 1_000_000);
  assert(buffer.take().every((byte) => byte === 7));
  assert.equal(buffer.length, 0);
});

Deno.test("no bytes whatever make the reader hang or fail otherwise than by an error", async () => {
  const valid =
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
  const mutated = fc.tuple(fc.nat(valid.length), fc.nat(9), fc.string({ unit: "binary-ascii" }))
    .map(
      ([at, count, insert]) => valid.slice(0, at) + insert + valid.slice(at + count),
    );
  await fc.assert(
    fc.asyncProperty(mutated, fc.integer({ min: 1, max: 40 }), async (text, size) => {
      try {
        assert((await read(text, size)).body.length <= text.length);
      } catch (error) {
        assert(error instanceof Error && error.name !== "AssertionError", String(error));
      }
    }),
    { numRuns: 500 },
  );
});
