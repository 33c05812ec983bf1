/** The shim on the host: where it goes and where the plugin, when it is left out, how it changes. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { Operations } from "../installer/host/operations.ts";
import { PluginFiles } from "../installer/host/plugin_files.ts";
import { startProgram, startShim } from "../installer/host/program_start.ts";
import { InstallerHost, networkConfig, primaryList } from "./support/installer_host.ts";
import { doWork } from "./support/installer_work.ts";
import { sleepingProgram } from "./support/sleeping_program.ts";
import { scriptPlugin } from "./support/stand_in_program.ts";
import { compiledShim, playAgent } from "./support/shim.ts";
import { formatAnswer } from "../src/shim/words.ts";
import "./support/load_libc.ts";

/** Plugin files whose host sees its folders as this process does, so that the shim works here. */
function filesOf(
  host: InstallerHost,
  options: { operations?: Operations; hostSocket?: string; start?: typeof startShim } = {},
): PluginFiles {
  const { sourceDir, binDir, netDir } = host;
  const { operations = new Operations(), hostSocket = `${netDir}/call.sock` } = options;
  const places = { sourceDir, binDir, hostBinDir: binDir, shim: { hostSocket, netDir } };
  return new PluginFiles(operations, places, startProgram, options.start);
}

const namesIn = (folder: string) => Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();

/** Starts what is in the bin dir as a runtime does. */
function version(host: InstallerHost): string {
  const { stdout } = new Deno.Command(`${host.binDir}/kuma-cni`, {
    env: { CNI_COMMAND: "VERSION" },
    stdin: "null",
  }).outputSync();
  return new TextDecoder().decode(stdout);
}

Deno.test("the shim has the plugin's name, and the plugin a folder named after its content", async () => {
  await using host = new InstallerHost();
  await host.shipShim();
  const files = filesOf(host);
  await files.install();
  deepEqual(await files.inspect(), { kind: "current" });
  deepEqual(namesIn(host.binDir), ["kuma-cni", "kuma-cni.d"]);
  const plugin = host.pluginPath()!;
  match(plugin, /\/bin\/kuma-cni\.d\/[0-9a-f]{32}\/kuma-cni$/);
  equal(Deno.readTextFileSync(plugin), scriptPlugin);
  ok(Deno.statSync(`${host.binDir}/kuma-cni`).size <= 16 * 1024);
  match(version(host), /supportedVersions/);
  {
    const answer = { kind: "answered", exitCode: 0, stderr: new Uint8Array() } as const;
    const stdout = new TextEncoder().encode("the agent's answer");
    await using _ = playAgent(`${host.netDir}/call.sock`, async (connection) => {
      await connection.read(new Uint8Array(4096));
      await connection.write(formatAnswer({ ...answer, stdout }));
    });
    const child = new Deno.Command(`${host.binDir}/kuma-cni`, {
      env: { CNI_COMMAND: "VERSION" },
      stdin: "null",
    });
    equal(new TextDecoder().decode((await child.output()).stdout), "the agent's answer");
  }
  for (const path of [plugin, `${host.binDir}/kuma-cni`]) {
    Deno.writeTextFileSync(path, "damaged");
    deepEqual(await files.inspect(), { kind: "differs", path });
    await files.install();
    deepEqual(await files.inspect(), { kind: "current" });
    Deno.removeSync(path);
    deepEqual(await files.inspect(), { kind: "missing", path });
    await files.install();
  }
  files.remove();
  deepEqual(namesIn(host.binDir), []);
});

Deno.test("the shim is left out where it cannot be or is not wanted, and the plugin is whole without it", async () => {
  const cases: Readonly<Record<string, (host: InstallerHost) => Promise<PluginFiles>>> = {
    "the image was built without it": (host) => Promise.resolve(filesOf(host)),
    "it is switched off": async (host) => {
      await host.shipShim();
      const { sourceDir, binDir } = host;
      return new PluginFiles(new Operations(), { sourceDir, binDir, hostBinDir: binDir });
    },
    "at most 107 fit": async (host) => {
      await host.shipShim();
      return filesOf(host, { hostSocket: `/${"a".repeat(200)}` });
    },
    "everybody can write to": async (host) => {
      await host.shipShim();
      Deno.chmodSync(host.netDir, 0o777);
      return filesOf(host);
    },
    "does not start": async (host) => {
      await host.shipShim();
      return filesOf(host, { start: () => ({ kind: "failed", reason: "no such machine" }) });
    },
  };
  for (const [reason, prepare] of Object.entries(cases)) {
    await using host = new InstallerHost();
    const files = await prepare(host);
    await files.install();
    deepEqual(await files.inspect(), { kind: "current" }, reason);
    ok(files.shim?.kind === "plugin" && files.shim.reason.includes(reason), reason);
    equal(Deno.readTextFileSync(`${host.binDir}/kuma-cni`), scriptPlugin, reason);
    match(version(host), /supportedVersions/, reason);
  }
});

Deno.test("a file that is no shim is not put in place", async () => {
  await using host = new InstallerHost();
  const shim = (await compiledShim()).slice();
  // The machine of another architecture: e_machine of elf(5).
  shim[18] = 0xff;
  Deno.writeFileSync(`${host.sourceDir}/kuma-cni.shim`, shim, { mode: 0o755 });
  const files = filesOf(host);
  await files.install();
  equal(files.shim?.kind, "plugin");
  equal(Deno.readTextFileSync(`${host.binDir}/kuma-cni`), scriptPlugin);
});

Deno.test("how a program that is no shim ends is told", () => {
  const path = Deno.makeTempFileSync({ prefix: "kuma-test-no-shim-" });
  try {
    Deno.chmodSync(path, 0o700);
    for (
      const [script, end] of [
        ["exit 3", "it ended with exit code 3"],
        ["kill -KILL $$", "signal 9 ended it"],
        ["echo '{\"code\":7}'; exit 1", "it ended with exit code 1"],
      ] as const
    ) {
      Deno.writeTextFileSync(path, `#!/bin/sh\n${script}\n`);
      deepEqual(startShim(path), { kind: "failed", reason: `started without a plugin, ${end}` });
    }
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("there and back, each call finds a plugin, and calls in flight find theirs", async () => {
  await using host = new InstallerHost();
  const { sourceDir, binDir } = host;
  let started = 0;
  let isThere = false;
  const operations = () =>
    new Operations(() => {
      if (!isThere) return;
      const { success } = new Deno.Command(`${binDir}/kuma-cni`, { args: ["0"], stdin: "null" })
        .outputSync();
      ok(success);
      started++;
    });
  const plain = () => new PluginFiles(operations(), { sourceDir, binDir, hostBinDir: binDir });
  const shimmed = () => filesOf(host, { operations: operations() });
  await host.shipShim();
  // An upgrade from the plain layout, one behind the shim, and the way back.
  const steps = [plain, shimmed, shimmed, plain];
  const calls: Deno.ChildProcess[] = [];
  try {
    for (const [index, files] of steps.entries()) {
      Deno.writeFileSync(`${sourceDir}/kuma-cni`, sleepingProgram(index), { mode: 0o755 });
      const now = files();
      await now.install();
      isThere = true;
      deepEqual(await now.inspect(), { kind: "current" });
      equal(now.hasReplaced, index > 0);
      if (index === 0) {
        // A library is no program that somebody may have to wait for.
        Deno.mkdirSync(`${binDir}/kuma-cni.d/1`, { recursive: true });
        Deno.writeTextFileSync(`${binDir}/kuma-cni.d/1/libc.so.6`, "");
        equal(now.hasReplaced, false);
      }
      now.removeStale(Date.now() + 30_000);
      for (const [version, { pid }] of calls.entries()) {
        // What is kept is the version before; older ones have long been started.
        if (version !== index - 1) continue;
        const own = Deno.readFileSync(Deno.readLinkSync(`/proc/${pid}/exe`));
        deepEqual(own, sleepingProgram(version));
      }
      const call = new Deno.Command(`${binDir}/kuma-cni`, { args: ["60"], stdin: "null" }).spawn();
      calls.push(call);
      const plugin = host.pluginPath()!;
      for (let i = 0; Deno.readLinkSync(`/proc/${call.pid}/exe`) !== plugin; i++) {
        ok(i < 1000);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      if (index === steps.length - 1) {
        now.removeStale(Date.now() + 61_000);
        equal(now.hasReplaced, false);
        deepEqual(namesIn(binDir), ["kuma-cni", "kuma-cni.d"]);
        deepEqual(namesIn(`${binDir}/kuma-cni.d`), []);
      }
    }
  } finally {
    for (const call of calls) {
      call.kill("SIGKILL");
      await call.status;
    }
  }
  ok(started > 50, `started ${started} times`);
});

Deno.test("install-cni puts the shim in place, says what it leaves out, and leaves nothing", async () => {
  for (const [extra, isShim] of [[{}, true], [{ SHIM: "false" }, false]] as const) {
    await using host = new InstallerHost();
    host.shipLibraries("1");
    await host.shipShim();
    host.writeConf("10-calico.conflist", primaryList);
    const before = host.snapshot();
    const settings = host.settings({ CNI_NETWORK_CONFIG: networkConfig, ...extra });
    equal(await doWork("install", settings, new Operations()), undefined);
    equal(host.pluginPath() !== `${host.binDir}/kuma-cni`, isShim);
    const text = new TextDecoder("latin1").decode(Deno.readFileSync(`${host.binDir}/kuma-cni`));
    equal(text.includes("kuma-cni:socket\0/etc/cni/net.d/kuma-cni.d/call.sock\0"), isShim);
    equal(await doWork("uninstall", settings, new Operations()), undefined);
    deepEqual(host.snapshot(), before);
  }
});
