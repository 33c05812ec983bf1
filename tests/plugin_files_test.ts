/** The plugin's program on its way to the host: what counts as current, and what is put in place. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { interpreterOf } from "../installer/host/interpreter.ts";
import { Operations } from "../installer/host/operations.ts";
import { PluginFiles } from "../installer/host/plugin_files.ts";
import { startProgram } from "../installer/host/program_start.ts";
import { fileClock } from "../src/linux/file_clock.ts";
import { InstallerHost, primaryList } from "./support/installer_host.ts";
import { loader, scriptPlugin } from "./support/stand_in_program.ts";
import "./support/load_libc.ts";

function filesOf(host: InstallerHost, operations = new Operations()): PluginFiles {
  const { sourceDir, binDir } = host;
  return new PluginFiles(operations, { sourceDir, binDir, hostBinDir: "/opt/cni/bin" });
}

/** Waits until the clock for files has gone on, so that hashes are kept. */
async function afterTick(): Promise<void> {
  const now = fileClock();
  while (fileClock() <= now) await new Promise((resolve) => setTimeout(resolve, 5));
}

Deno.test("a program that another one wrote at any moment of an installation never counts as current", async () => {
  const foreign = scriptPlugin.replace("echo", "exit");
  for (let at = 1, done = false; !done; at++) {
    await using host = new InstallerHost();
    const path = `${host.binDir}/kuma-cni`;
    let count = 0;
    const files = filesOf(
      host,
      new Operations(() => {
        if (++count !== at) return;
        Deno.writeTextFileSync(path, foreign, { mode: 0o755 });
        Deno.chmodSync(path, 0o755);
      }),
    );
    await files.install();
    done = count < at;
    ok(at < 200);
    if (Deno.readTextFileSync(path) !== foreign) continue;
    // The first look afterwards says so, and so does each later one.
    for (let look = 0; look < 3; look++) {
      deepEqual(await files.inspect(), { kind: "differs", path }, `operation ${at}, look ${look}`);
      await afterTick();
    }
  }
});

Deno.test("a program that changes in the tick of its last change is read again", async () => {
  await using host = new InstallerHost();
  const files = filesOf(host);
  await files.install();
  const path = `${host.binDir}/kuma-cni`;
  for (let i = 0; i < 20; i++) {
    Deno.writeTextFileSync(path, scriptPlugin);
    deepEqual(await files.inspect(), { kind: "current" });
    Deno.writeTextFileSync(path, scriptPlugin.replace("echo", "exit"));
    deepEqual(await files.inspect(), { kind: "differs", path });
  }
});

Deno.test("a hash is kept while nothing changes", async () => {
  await using host = new InstallerHost();
  host.shipLibraries("1");
  const files = filesOf(host);
  await files.install();
  await afterTick();
  deepEqual(await files.inspect(), { kind: "current" });
  const path = `${host.binDir}/kuma-cni`;
  const read = Deno.openSync;
  let opened = 0;
  try {
    Deno.openSync = (...args) => (opened++, read(...args));
    deepEqual(await files.inspect(), { kind: "current" });
  } finally {
    Deno.openSync = read;
  }
  equal(opened, 0, `read again although nothing has changed: ${path}`);
});

Deno.test("a self-contained program is started before it is put in place, then made for the host", async () => {
  await using host = new InstallerHost();
  host.shipLibraries("1");
  const files = filesOf(host);
  await files.install();
  equal(files.doubt, undefined);
  const program = Deno.readFileSync(`${host.binDir}/kuma-cni`);
  equal(
    interpreterOf((offset, length) => program.subarray(offset, offset + length)),
    "/opt/cni/bin/kuma-cni.d/1/ld-linux-x86-64.so.2",
  );
  await afterTick();
  deepEqual(await files.inspect(), { kind: "current" });

  // The next version does not start: the old one stays, and nothing is left beside it.
  for (
    const [text, reason] of [
      [loader("2", 9), /asked for its version, it ended with exit code 9/],
      ["no program", /Cannot start ".*"/],
    ] as const
  ) {
    host.shipLibraries("2");
    const path = `${host.sourceDir}/kuma-cni.lib/2/ld-linux-x86-64.so.2`;
    if (typeof text === "string") Deno.writeTextFileSync(path, text);
    else Deno.writeFileSync(path, text);
    await rejects(filesOf(host).install(), (error: Error) => {
      match(error.message, /does not start from/);
      match(error.message, reason);
      return true;
    });
    deepEqual(Deno.readFileSync(`${host.binDir}/kuma-cni`), program);
    const names = Array.from(Deno.readDirSync(host.binDir), ({ name }) => name).sort();
    deepEqual(names, ["kuma-cni", "kuma-cni.d"]);
  }
});

Deno.test("install-cni is not ready with a program that does not start, and says why", async () => {
  await using host = new InstallerHost();
  host.writeConf("10-calico.conflist", primaryList);
  host.shipLibraries("1");
  const path = `${host.sourceDir}/kuma-cni.lib/1/ld-linux-x86-64.so.2`;
  Deno.writeFileSync(path, loader("1", 1));
  const agent = host.start();
  await agent.until("said", () => /does not start from/.test(agent.stderr));
  ok(!host.isReady);
  equal(host.readConf("10-calico.conflist"), primaryList, "nothing names it");
  // Trouble that comes back at each attempt is told once, although temporary names differ.
  await agent.until("several attempts", () => agent.stderr !== "", 100);
  await new Promise((resolve) => setTimeout(resolve, 2500));
  equal(agent.stderr.match(/does not start from/g)?.length, 1, agent.stderr);
  ok(!/kuma-cni-[0-9a-f]{8}-/.test(agent.stderr), agent.stderr);
});

Deno.test("a program that may not be started here is installed with a word of doubt", async () => {
  await using host = new InstallerHost();
  host.shipLibraries("1");
  const { sourceDir, binDir } = host;
  const places = { sourceDir, binDir, hostBinDir: "/opt/cni/bin" };
  const files = new PluginFiles(
    new Operations(),
    places,
    () => ({ kind: "doubt", reason: "Cannot start: Permission denied" }),
  );
  await files.install();
  equal(files.doubt, "Cannot start: Permission denied");
  await afterTick();
  deepEqual(await files.inspect(), { kind: "current" });
});

Deno.test("a program that a child of another thread still has open is started when it is free", async () => {
  await using host = new InstallerHost();
  const path = `${host.sourceDir}/kuma-cni`;
  const holder = new Deno.Command("sh", {
    args: ["-c", 'exec 3>> "$0"; echo open; sleep 0.2', path],
    stdout: "piped",
  }).spawn();
  const reader = holder.stdout.getReader();
  await reader.read();
  deepEqual(startProgram(path, true), { kind: "started" });
  reader.releaseLock();
  await holder.stdout.cancel();
  await holder.status;
});
