import assert from "node:assert/strict";
import { waitUntilReadable } from "../src/linux/poll.ts";
import { libc, openForReading } from "../src/linux/libc.ts";

// Stays loaded, which is no leak of a test.
libc();

Deno.test("waits for input no longer than told, and not at all for what is there", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    await new Deno.Command("mkfifo", { args: [`${folder}/fifo`] }).output();
    using reader = openForReading(`${folder}/fifo`);
    using writer = await Deno.open(`${folder}/fifo`, { write: true });
    const started = performance.now();
    assert.equal(waitUntilReadable(reader.number, 30), false);
    const waited = performance.now() - started;
    assert(waited >= 29 && waited < 1000, `${waited} ms`);
    writer.writeSync(new Uint8Array(1));
    assert.equal(waitUntilReadable(reader.number, 0), true);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
