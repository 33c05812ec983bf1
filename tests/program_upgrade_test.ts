/** Replacing the plugin's program while calls of it are starting. */
import assert from "node:assert/strict";
import { Operations } from "../installer/host/operations.ts";
import { PluginFiles } from "../installer/host/plugin_files.ts";
import { sleepingProgram } from "./support/sleeping_program.ts";
import "./support/load_libc.ts";

Deno.test("a started call finds its own file after an upgrade, until none can be starting", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-test-" });
  try {
    const [sourceDir, binDir] = [`${folder}/image`, `${folder}/bin`];
    for (const path of [sourceDir, binDir]) Deno.mkdirSync(path);
    const install = async (version: number): Promise<PluginFiles> => {
      Deno.writeFileSync(`${sourceDir}/kuma-cni`, sleepingProgram(version), { mode: 0o755 });
      const files = new PluginFiles(new Operations(), { sourceDir, binDir, hostBinDir: binDir });
      await files.install();
      assert.deepEqual(await files.inspect(), { kind: "current" });
      return files;
    };
    await install(1);
    const call = new Deno.Command(`${binDir}/kuma-cni`, { args: ["60"], stdin: "null" }).spawn();
    try {
      // What denort does when it starts: it opens the file that it was started from.
      const ownFile = () => Deno.readFileSync(Deno.readLinkSync(`/proc/${call.pid}/exe`));
      const files = await install(2);
      assert.deepEqual(ownFile(), sleepingProgram(1));
      assert.deepEqual(Deno.readFileSync(`${binDir}/kuma-cni`), sleepingProgram(2));
      files.removeStale(Date.now() + 30_000);
      assert.deepEqual(ownFile(), sleepingProgram(1));
      files.removeStale(Date.now() + 61_000);
      assert.deepEqual([...Deno.readDirSync(binDir)].map(({ name }) => name), ["kuma-cni"]);
      await install(3);
      (await install(4)).remove();
      assert.deepEqual([...Deno.readDirSync(binDir)], []);
    } finally {
      call.kill("SIGKILL");
      await call.status;
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a program can be started at every moment of an upgrade", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-test-" });
  try {
    const [sourceDir, binDir] = [`${folder}/image`, `${folder}/bin`];
    for (const path of [sourceDir, binDir]) Deno.mkdirSync(path);
    const start = (): boolean =>
      new Deno.Command(`${binDir}/kuma-cni`, { args: ["0"], stdin: "null" }).outputSync().success;
    let started = 0;
    for (const version of [1, 2]) {
      Deno.writeFileSync(`${sourceDir}/kuma-cni`, sleepingProgram(version), { mode: 0o755 });
      const operations = new Operations(() => {
        if (version > 1 && start()) started++;
      });
      await new PluginFiles(operations, { sourceDir, binDir, hostBinDir: binDir }).install();
    }
    assert.ok(started > 5, `started ${started} times`);
    assert.ok(start());
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
