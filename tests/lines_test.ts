/** Lines of the agent's socket and of a watch, in whatever pieces they come. */
import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import fc from "fast-check";
import { LineStream } from "../src/agent/lines.ts";
import { LineSplitter } from "../src/bytes/lines.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Text cut into pieces of these lengths, the last one repeated. */
function* pieces(text: string, lengths: readonly number[]): Generator<Uint8Array> {
  const bytes = encoder.encode(text);
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = lengths[Math.min(i, lengths.length - 1)]!;
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

Deno.test("pieces of any length give the same lines", () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: "binary" }).map((text) => text.replaceAll("\n", "")), {
        maxLength: 10,
      }),
      fc.string({ maxLength: 5 }).map((text) => text.replaceAll("\n", "")),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
      (lines, rest, lengths) => {
        const splitter = new LineSplitter(10_000);
        const text = lines.map((line) => `${line}\n`).join("") + rest;
        const found = [...pieces(text, lengths)].flatMap((piece) => [...splitter.push(piece)]);
        deepEqual(found.map((line) => decoder.decode(line)), lines);
        equal(decoder.decode(splitter.takeRest()), rest);
      },
    ),
  );
});

Deno.test("a line may have as many bytes as allowed and not one more, in any pieces", () => {
  for (const length of [1, 3, 100]) {
    const push = (text: string) => {
      const splitter = new LineSplitter(10);
      return [...pieces(text, [length])].flatMap((piece) => [...splitter.push(piece)]).length;
    };
    equal(push("0123456789\n0123456789\n"), 2);
    throws(() => push("0123456789\n01234567890\n"), /A line has more than 10 bytes/);
    throws(() => push("01234567890"), /A line has more than 10 bytes/);
  }
});

Deno.test("a long line costs no more for each byte than a short one", () => {
  const time = (length: number) => {
    const splitter = new LineSplitter(1e9);
    const piece = new Uint8Array(64).fill(0x20);
    const start = performance.now();
    for (let sent = 0; sent < length; sent += piece.length) for (const _ of splitter.push(piece));
    return (performance.now() - start) / length;
  };
  time(1 << 20);
  const [short, long] = [1 << 18, 1 << 24].map(time) as [number, number];
  // Were all of it looked at again for each piece, it would be 64 times as much.
  ok(long < short * 16, `${long * 1e6} instead of ${short * 1e6} ns a byte`);
});

Deno.test("lines that come together are read one after the other", async () => {
  const chunks = [encoder.encode("one\ntwo\nth"), encoder.encode("ree\nfour")];
  const stream = new LineStream({
    read: (buffer) => {
      const chunk = chunks.shift();
      if (chunk === undefined) return Promise.resolve(null);
      buffer.set(chunk);
      return Promise.resolve(chunk.length);
    },
    write: (data) => Promise.resolve(data.length),
  });
  const lines = [];
  for (let i = 0; i < 4; i++) lines.push(await stream.readLine());
  deepEqual(lines, ["one", "two", "three", undefined]);

  const endless = new LineStream({
    read: (buffer) => Promise.resolve(buffer.fill(0x20).length),
    write: (data) => Promise.resolve(data.length),
  });
  await rejects(() => endless.readLine(), RangeError);
});
