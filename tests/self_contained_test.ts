import { deepEqual, equal, match, notEqual, throws } from "node:assert/strict";
import { readerOf } from "../installer/host/elf_header.ts";
import {
  findInterpreterSlot,
  interpreterOf,
  interpreterSlotSize,
  libraryFolder,
  setInterpreter,
} from "../installer/host/interpreter.ts";
import { Operations } from "../installer/host/operations.ts";
import { PluginFiles } from "../installer/host/plugin_files.ts";
import { addLibraryPath, describeElf } from "../scripts/elf.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { pluginBehind } from "./support/shim.ts";
import "./support/load_libc.ts";

const binDirs = [
  "/opt/cni/bin",
  "/home/kubernetes/bin",
  "/var/lib/rancher/k3s/data/3ef3ab8b5a9f3f1f6bd6b4ee8ad1d4d1a6c1b26f6fc8e3a8f2a2cd1b5dc6ac07/bin",
];

/** Calls back with a folder that is to be some host's root; removed afterwards. */
async function withHostRoot(work: (root: string) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    await work(root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** Installs plugin and libraries as install-cni does; returns the folder of the libraries. */
async function installInto(root: string, binDir: string, shim = false): Promise<string> {
  const plugin = await compiledPlugin();
  await Deno.mkdir(`${root}/proc`, { recursive: true });
  await Deno.mkdir(`${root}${binDir}`, { recursive: true });
  const files = new PluginFiles(new Operations(), {
    sourceDir: plugin.slice(0, plugin.lastIndexOf("/")),
    binDir: `${root}${binDir}`,
    hostBinDir: binDir,
    ...(shim ? { shim: { hostSocket: "/run/call.sock", netDir: root } } : {}),
  });
  await files.install();
  equal(files.shim?.kind, shim ? "shim" : "plugin");
  deepEqual(await files.inspect(), { kind: "current" });
  const [version] = Array.from(Deno.readDirSync(`${plugin}.lib`), (entry) => entry.name);
  const program = await Deno.readFile(
    pluginBehind(`${root}${binDir}/kuma-cni`, `${root}${binDir}`)!,
  );
  equal(
    interpreterOf(readerOf(program)),
    `${binDir}/${libraryFolder}/${version}/${loaderName}`,
  );
  return `${root}${binDir}/${libraryFolder}/${version}`;
}

const loaderName = Deno.build.arch === "x86_64" ? "ld-linux-x86-64.so.2" : "ld-linux-aarch64.so.1";

/** Runs a program with `root` as the root folder, in a mount namespace that ends with it. */
async function runInside(
  root: string,
  program: string,
  env: Record<string, string>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$1"';
  const { code, stdout, stderr } = await new Deno.Command("unshare", {
    args: ["--mount", "--propagation", "private", "sh", "-c", script, root, program],
    clearEnv: true,
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...env },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

for (
  const [binDir, shim] of binDirs.flatMap((binDir) => [[binDir, false], [binDir, true]] as const)
) {
  const what = shim ? "the shim and the plugin behind it run" : "the plugin runs";
  Deno.test(`${what} in ${binDir} of a host that has nothing else`, async () => {
    await withHostRoot(async (root) => {
      await installInto(root, binDir, shim);
      const { code, stdout, stderr } = await runInside(root, `${binDir}/kuma-cni`, {
        CNI_COMMAND: "VERSION",
      });
      equal(code, 0, stderr);
      equal(JSON.parse(stdout).cniVersion, "1.1.0");
    });
  });
}

Deno.test("without its libraries the plugin does not start on such a host", async () => {
  await withHostRoot(async (root) => {
    const libraries = await installInto(root, "/opt/cni/bin");
    await Deno.remove(`${libraries}/libc.so.6`);
    const { code, stderr } = await runInside(root, "/opt/cni/bin/kuma-cni", {
      CNI_COMMAND: "VERSION",
    });
    notEqual(code, 0);
    match(stderr, /libc\.so\.6/);
  });
});

Deno.test("a library path in the environment does not replace the plugin's own libraries", async () => {
  await withHostRoot(async (root) => {
    await installInto(root, "/opt/cni/bin");
    await Deno.mkdir(`${root}/foreign`);
    for (const name of ["libc.so.6", "libm.so.6"]) {
      await Deno.writeTextFile(`${root}/foreign/${name}`, "of another build");
    }
    const { code, stdout, stderr } = await runInside(root, "/opt/cni/bin/kuma-cni", {
      CNI_COMMAND: "VERSION",
      LD_LIBRARY_PATH: "/foreign",
    });
    equal(code, 0, stderr);
    equal(JSON.parse(stdout).cniVersion, "1.1.0");
  });
});

Deno.test("as built, the plugin runs with the C library of this machine", async () => {
  const plugin = await compiledPlugin();
  const { code, stdout } = await new Deno.Command(plugin, {
    env: { CNI_COMMAND: "VERSION" },
    stdin: "null",
  }).output();
  equal(code, 0);
  equal(JSON.parse(new TextDecoder().decode(stdout)).cniVersion, "1.1.0");
});

Deno.test("an interpreter path that does not fit is refused", async () => {
  const program = await Deno.readFile(await compiledPlugin());
  const longest = "/" + "x".repeat(interpreterSlotSize - 2);
  const slot = findInterpreterSlot(readerOf(program));
  equal(setInterpreter(program, longest)[slot.offset + slot.length - 1], 0);
  throws(() => setInterpreter(program, longest + "x"), {
    name: "InterpreterError",
    message: /256 bytes, at most 255 fit/,
  });
  throws(() => setInterpreter(program, "lib/ld.so"), /expected an absolute path/);
  throws(() => setInterpreter(program, "/lib/\0ld.so"), /expected an absolute path without NUL/);
});

Deno.test("a program without interpreter slot is refused", () => {
  const foreign = Deno.readFileSync("/bin/true");
  throws(() => setInterpreter(foreign, "/lib/ld.so"), /not built with an interpreter slot/);
  throws(() => setInterpreter(new TextEncoder().encode("#!/bin/sh\n"), "/ld"), /expected a 64-bit/);
  throws(() => setInterpreter(foreign.subarray(0, 70), "/ld"), /header table is damaged/);
});

Deno.test("only a library path and an interpreter slot are added to a program", async () => {
  const program = await Deno.readFile("/bin/true");
  const before = describeElf(program);
  const edited = addLibraryPath(program, "$ORIGIN/lib");
  const after = describeElf(edited);
  deepEqual(after, { ...before, libraryPath: "$ORIGIN/lib" });
  throws(() => addLibraryPath(edited, "$ORIGIN/lib"), { name: "ElfError" });
  const path = await Deno.makeTempFile({ prefix: "kuma-test-" });
  try {
    await Deno.writeFile(path, edited);
    await Deno.chmod(path, 0o755);
    const { code } = await new Deno.Command(path, { stdin: "null" }).output();
    equal(code, 0);
  } finally {
    await Deno.remove(path);
  }
});
