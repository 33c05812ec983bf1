import assert from "node:assert/strict";
import { libc } from "../src/linux/libc.ts";
import { readRegularFile, UnusableFileError } from "../src/linux/regular_file.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

/** A folder with one of everything that is not a file to read. */
async function oddFolder(): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-odd-files-" });
  await Deno.mkdir(`${folder}/directory`);
  await Deno.symlink("/dev/zero", `${folder}/link-to-zero`);
  await Deno.symlink("/dev/null", `${folder}/link-to-null`);
  const { success } = await new Deno.Command("mkfifo", { args: [`${folder}/fifo`] }).output();
  assert(success);
  await Deno.symlink("fifo", `${folder}/link-to-fifo`);
  return folder;
}

Deno.test("files are read whole, whatever their size up to the bound", async () => {
  const path = await Deno.makeTempFile({ prefix: "kuma-test-" });
  try {
    for (const size of [0, 1, 65_535, 65_536, 65_537, 300_000]) {
      const bytes = Uint8Array.from({ length: size }, (_, at) => at % 251);
      await Deno.writeFile(path, bytes);
      assert.deepEqual(readRegularFile(path), bytes);
      assert.deepEqual(readRegularFile(path, size), bytes);
      if (size > 0) {
        assert.throws(() => readRegularFile(path, size - 1), {
          name: "UnusableFileError",
          message: `Cannot read "${path}": it is larger than ${size - 1} bytes, the most for ` +
            "such a file",
        });
      }
    }
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("what is not a file is refused at once, by name", async (t) => {
  const folder = await oddFolder();
  const socket = Deno.listen({ transport: "unix", path: `${folder}/socket` });
  // A writer that has said something makes a FIFO readable, and it still never ends.
  const writer = await Deno.open(`${folder}/fifo`, { read: true, write: true });
  try {
    await writer.write(new TextEncoder().encode("token"));
    const rows: [string, RegExp][] = [
      ["fifo", /: it is a FIFO, expected a regular file$/],
      ["link-to-fifo", /: it is a FIFO, expected/],
      ["link-to-zero", /: it is a character device, expected/],
      ["link-to-null", /: it is a character device, expected/],
      ["directory", /: it is a directory, expected/],
      ["socket", /: it is a socket or a device, expected/],
    ];
    for (const [name, message] of rows) {
      await t.step(name, () => {
        const started = performance.now();
        assert.throws(() => readRegularFile(`${folder}/${name}`), (error) => {
          assert(error instanceof UnusableFileError, String(error));
          assert.match(error.message, message);
          return true;
        });
        assert(performance.now() - started < 1000);
      });
    }
    await t.step("missing", () => {
      assert.throws(() => readRegularFile(`${folder}/none`), { code: "ENOENT" });
    });
  } finally {
    writer.close();
    socket.close();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a huge file takes no memory", async () => {
  const path = await Deno.makeTempFile({ prefix: "kuma-test-" });
  try {
    await Deno.truncate(path, 2 ** 40);
    const before = Deno.memoryUsage().external;
    assert.throws(() => readRegularFile(path, 100_000), UnusableFileError);
    assert(Deno.memoryUsage().external - before < 2_000_000);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("no descriptor is left open", async () => {
  const folder = await oddFolder();
  try {
    await Deno.writeTextFile(`${folder}/file`, "content");
    const count = () => [...Deno.readDirSync("/proc/self/fd")].length;
    const before = count();
    for (let time = 0; time < 20; time++) {
      for (const name of ["file", "fifo", "link-to-zero", "directory", "none"]) {
        try {
          readRegularFile(`${folder}/${name}`);
        } catch {
          // As the test above has it.
        }
      }
    }
    assert.equal(count(), before);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
