/** The plugin of an image that has the runtime only once: put together from two files, proven as one. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { Operations } from "../installer/host/operations.ts";
import { PluginFiles } from "../installer/host/plugin_files.ts";
import { libc } from "../src/linux/libc.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

/** A file as `deno compile` makes it: a runtime, something appended, and its length. */
function program(runtime: string, appended: string): Uint8Array {
  const text = new TextEncoder().encode(runtime + appended);
  const bytes = new Uint8Array(text.length + 16);
  bytes.set(text);
  const view = new DataView(bytes.buffer, text.length);
  view.setUint32(0, 0x501e, true);
  view.setBigUint64(8, BigInt(appended.length + 16), true);
  return bytes;
}

async function withPlaces(
  work: (image: string, host: string, files: () => PluginFiles) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  const [image, host] = [`${folder}/image`, `${folder}/host`];
  Deno.mkdirSync(image);
  Deno.mkdirSync(host);
  const places = { sourceDir: image, binDir: host, hostBinDir: "/opt/cni/bin" };
  try {
    await work(image, host, () => new PluginFiles(new Operations(), places));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

// Longer than the pieces that are read, so that both files come in several.
const runtime = "runtime ".repeat(300_000);
const installer = program(runtime, "installer ".repeat(10));
const plugin = program(runtime, "plugin ".repeat(200_000));
const payload = plugin.subarray(runtime.length);

Deno.test({
  name:
    "the host gets the runtime of one file and the payload of another, and each change is noticed",
  // The exchange of files loads its C library once for the process.
  sanitizeResources: false,
  fn: putTogether,
});

async function putTogether(): Promise<void> {
  await withPlaces(async (image, host, files) => {
    Deno.writeFileSync(`${image}/kuma-cni`, installer, { mode: 0o755 });
    Deno.writeFileSync(`${image}/kuma-cni.payload`, payload);
    const own = files();
    deepEqual(await own.inspect(), { kind: "missing", path: `${host}/kuma-cni` });
    await own.install();
    deepEqual(Deno.readFileSync(`${host}/kuma-cni`), plugin);
    equal(Deno.statSync(`${host}/kuma-cni`).mode! & 0o7777, 0o755);
    deepEqual(await own.inspect(), { kind: "current" });
    deepEqual(Array.from(Deno.readDirSync(host), ({ name }) => name), ["kuma-cni"]);
    deepEqual(await files().inspect(), { kind: "current" });

    const differs = { kind: "differs", path: `${host}/kuma-cni` };
    for (const at of [0, runtime.length - 1, runtime.length, plugin.length - 1]) {
      const changed = plugin.slice();
      changed[at]! ^= 1;
      Deno.writeFileSync(`${host}/kuma-cni`, changed);
      deepEqual(await files().inspect(), differs, `byte ${at}`);
    }
    await own.install();
    deepEqual(Deno.readFileSync(`${host}/kuma-cni`), plugin);

    // The next image has another payload of the same length.
    const other = program(runtime, "plugIn ".repeat(200_000));
    Deno.writeFileSync(`${image}/kuma-cni.payload`, other.subarray(runtime.length));
    deepEqual(await own.inspect(), differs);
    const next = files();
    await next.install();
    deepEqual(Deno.readFileSync(`${host}/kuma-cni`), other);
  });
}

Deno.test("without a payload the program is installed as it is", async () => {
  await withPlaces(async (image, host, files) => {
    Deno.writeFileSync(`${image}/kuma-cni`, plugin, { mode: 0o755 });
    await files().install();
    deepEqual(Deno.readFileSync(`${host}/kuma-cni`), plugin);
  });
});

Deno.test("a payload beside a program without a runtime is an error that names both", async () => {
  await withPlaces(async (image, host, files) => {
    Deno.writeFileSync(`${image}/kuma-cni.payload`, payload);
    for (const bytes of [plugin.subarray(0, runtime.length), new Uint8Array(3)]) {
      Deno.writeFileSync(`${image}/kuma-cni`, bytes, { mode: 0o755 });
      await rejects(files().install(), ({ message }: Error) => {
        equal(
          message,
          `Cannot make the plugin of "${image}/kuma-cni" and "${image}/kuma-cni.payload": the ` +
            "former is not a compiled program; both belong to the image",
        );
        return true;
      });
    }
    deepEqual(Array.from(Deno.readDirSync(host)), []);
  });
});
