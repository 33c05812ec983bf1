/** What copying and hashing the plugin leaves in the page cache, in a container with little memory. */
import { equal, ok } from "node:assert/strict";
import { Operations } from "../installer/host/operations.ts";
import { PluginFiles } from "../installer/host/plugin_files.ts";
import { memoryLimit } from "../src/linux/memory_limit.ts";
import { PassingPages } from "../src/linux/page_cache.ts";
import { MemoryCgroup } from "./support/memory_cgroup.ts";
import "./support/load_libc.ts";

const MiB = 1 << 20;
const programSize = 90 * MiB;

/** Copies a program as install-cni does and prints how much of files was in memory at most. */
async function work(cgroup: string, folder: string): Promise<void> {
  Deno.writeTextFileSync(`${cgroup}/cgroup.procs`, String(Deno.pid));
  const read = () => {
    const stat = Deno.readTextFileSync(`${cgroup}/memory.stat`);
    return Number(/^(?:total_cache|file) (\d+)$/m.exec(stat)?.[1]);
  };
  const before = read();
  let most = 0;
  const operations = new Operations(() => most = Math.max(most, read()));
  const places = { sourceDir: `${folder}/image`, binDir: `${folder}/bin`, hostBinDir: "/opt" };
  const files = new PluginFiles(operations, places);
  await files.install();
  const { kind } = await files.inspect();
  most = Math.max(most, read());
  console.log(JSON.stringify({ kind, before, most, after: read() }));
}

/** Writes a file of random bytes and lets the kernel forget it. */
function writeCold(path: string): void {
  using file = Deno.openSync(path, { create: true, write: true, mode: 0o755 });
  const bytes = new Uint8Array(MiB);
  for (let at = 0; at < bytes.length; at += 65_536) {
    crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  }
  for (let i = 0; i < programSize / MiB; i++) file.writeSync(bytes);
  file.syncSync();
  using pages = new PassingPages(path);
  pages.forget(0, programSize);
}

Deno.test("copying the plugin leaves next to nothing of it in the container's memory", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-test-" });
  using cgroup = new MemoryCgroup(256 * MiB);
  try {
    for (const name of ["image", "bin"]) Deno.mkdirSync(`${folder}/${name}`);
    writeCold(`${folder}/image/kuma-cni`);
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "-A", import.meta.url, cgroup.path, folder],
      stdin: "null",
    }).output();
    ok(success, new TextDecoder().decode(stderr));
    const result = JSON.parse(new TextDecoder().decode(stdout));
    equal(result.kind, "current");
    // Without forgetting, it is the program twice: 180 MiB. The kernel reads 8 MiB ahead here.
    ok(result.most - result.before < 32 * MiB, JSON.stringify(result));
    ok(result.after - result.before < MiB, JSON.stringify(result));
    equal(cgroup.hits, 0);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("the bound of memory is found in a container and on a host, of both versions", () => {
  const limitOf = (files: Record<string, string>) =>
    memoryLimit((path) => {
      const text = files[path];
      if (text === undefined) throw new Deno.errors.NotFound(path);
      return text;
    });
  equal(limitOf({}), undefined);
  equal(limitOf({ "/sys/fs/cgroup/memory.max": "max\n" }), undefined);
  equal(limitOf({ "/sys/fs/cgroup/memory.max": "104857600\n" }), 104857600);
  equal(
    limitOf({ "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712" }),
    undefined,
  );
  equal(
    limitOf({
      "/proc/self/cgroup": "4:memory:/a:b/c\n0::/\n",
      "/sys/fs/cgroup/memory/a:b/c/memory.limit_in_bytes": "1024\n",
    }),
    1024,
  );
});

Deno.test("pages that somebody else needs stay in memory", () => {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-test-" });
  try {
    const path = `${folder}/kuma-cni`;
    writeCold(path);
    const resident = () => {
      const pages = new PassingPages(path, programSize);
      const count = pages.residentBefore;
      pages[Symbol.dispose]();
      return count;
    };
    equal(resident(), 0);
    using file = Deno.openSync(path, { read: true });
    const buffer = new Uint8Array(8 * MiB);
    file.readSync(buffer);
    using pages = new PassingPages(path, programSize);
    const warm = pages.residentBefore;
    ok(warm >= 8 * MiB / 4096);
    for (let at = 0; at < programSize; at += MiB) {
      file.seekSync(at, Deno.SeekMode.Start);
      file.readSync(buffer.subarray(0, MiB));
      pages.forget(at, MiB);
    }
    ok(resident() >= warm, "what was in memory before");
    // What the kernel reads ahead may still be on its way when it is counted.
    ok(resident() < warm + 16 * MiB / 4096, "what was not");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

if (import.meta.main && Deno.args.length === 2) await work(Deno.args[0]!, Deno.args[1]!);
