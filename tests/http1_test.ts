import assert from "node:assert/strict";
import fc from "fast-check";
import { ByteReader, readResponse } from "../src/kubernetes/http1.ts";

/** Reads an answer that arrives in pieces of `size` bytes; tells how often it was closed. */
async function read(text: string, size = 1): Promise<{ response: Response; closed: () => number }> {
  let closed = 0;
  const response = await readResponse(new ByteReader(pieces(text, size)), () => closed++);
  return { response, closed: () => closed };
}

async function* pieces(text: string, size: number): AsyncGenerator<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size);
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
        const { response, closed } = await read(text, size);
        assert.equal(response.status, status);
        assert.equal(await response.text(), body);
        assert.equal(closed(), 1);
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
  ];
  for (const [name, text, message] of rows) {
    await t.step(name, async () => {
      const { response, closed } = await read(text, 3);
      await assert.rejects(response.text(), message);
      assert.equal(closed(), 1);
    });
  }
});

Deno.test("a body that nobody wants any more is closed", async () => {
  const { response, closed } = await read("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", 100);
  await response.body?.cancel();
  assert.equal(closed(), 1);
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
        const { response } = await read(text, size);
        assert((await response.text()).length <= text.length);
      } catch (error) {
        assert(error instanceof Error && error.name !== "AssertionError", String(error));
      }
    }),
    { numRuns: 500 },
  );
});
