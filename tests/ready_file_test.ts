import assert from "node:assert/strict";
import { ReadyFile } from "../installer/loop/ready_file.ts";

Deno.test("the ready file is never written through what somebody else has put there", () => {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-test-" });
  try {
    const [path, victim] = [`${folder}/ready`, `${folder}/victim`];
    const plant: Record<string, () => void> = {
      link: () => Deno.symlinkSync(victim, path),
      fifo: () => new Deno.Command("mkfifo", { args: [path] }).outputSync(),
    };
    for (const make of Object.values(plant)) {
      const ready = new ReadyFile(path);
      make();
      ready.reset();
      assert.throws(() => Deno.lstatSync(path), Deno.errors.NotFound);
      make();
      ready.set(true);
      assert.ok(Deno.lstatSync(path).isFile);
      Deno.removeSync(path);
      make();
      ready.set(true);
      assert.ok(Deno.lstatSync(path).isFile);
      ready.set(false);
      assert.throws(() => Deno.lstatSync(path), Deno.errors.NotFound);
    }
    assert.throws(() => Deno.lstatSync(victim), Deno.errors.NotFound);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
