/** The log file of last resort: bounded, private, and never a reason to fail. */
import assert from "node:assert/strict";
import { appendToLogFile, stateFolderOf } from "../src/log/file.ts";
import { Logger, type LogRecord } from "../src/log/log.ts";

function record(message: string, fields: Record<string, unknown> = {}): LogRecord {
  return { time: 0, severity: "info", logger: "kuma-cni", message, fields };
}

/** A folder of network configurations, as on a host. */
async function withNetFolder(work: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    await Deno.chmod(folder, 0o755);
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function modeOf(path: string): number {
  return (Deno.lstatSync(path).mode ?? 0) & 0o7777;
}

Deno.test("The log's folder follows from the kubeconfig or the agent's socket", () => {
  const net = "/etc/cni/net.d";
  assert.equal(stateFolderOf(`${net}/kubeconfig`, undefined), `${net}/kuma-cni.d`);
  assert.equal(stateFolderOf(undefined, `${net}/kuma-cni.d/agent.sock`), `${net}/kuma-cni.d`);
  assert.equal(stateFolderOf(`${net}/k`, `/run/kuma-cni.d/a.sock`), "/run/kuma-cni.d");
  assert.equal(stateFolderOf(`${net}/k`, `/run/a.sock`), `${net}/kuma-cni.d`);
  assert.equal(stateFolderOf(undefined, `/run/a.sock`), "/run/kuma-cni.d");
  assert.equal(stateFolderOf(undefined, undefined), undefined);
  assert.equal(stateFolderOf("/kubeconfig", undefined), undefined);
});

Deno.test("Records become lines in a private file, one line each whatever they hold", async () => {
  await withNetFolder((net) => {
    const folder = `${net}/kuma-cni.d`;
    assert.equal(appendToLogFile(folder, []), true);
    assert.throws(() => Deno.statSync(folder), Deno.errors.NotFound);
    assert.equal(appendToLogFile(folder, [record("one\nforged\tline", { pod: "a\nb" })]), true);
    assert.equal(appendToLogFile(folder, [record("two"), record("x".repeat(200_000))]), true);
    assert.deepEqual([modeOf(folder), modeOf(`${folder}/kuma-cni.log`)], [0o700, 0o600]);
    const lines = Deno.readTextFileSync(`${folder}/kuma-cni.log`).split("\n");
    assert.equal(lines.length, 4);
    assert.equal(
      lines[0],
      '1970-01-01T00:00:00.000Z\tINFO\tkuma-cni\tone\\u000aforged\\u0009line\t{"pod":"a\\nb"}',
    );
    assert.ok((lines[2] ?? "").length < 70_000);
  });
});

Deno.test("There are at most two log files of bounded size", async () => {
  await withNetFolder((net) => {
    const folder = `${net}/kuma-cni.d`;
    for (let round = 0; round < 40; round++) {
      assert.equal(appendToLogFile(folder, [record("x".repeat(300))], 2000), true);
    }
    const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    assert.deepEqual(names, ["kuma-cni.log", "kuma-cni.log.1"]);
    for (const name of names) {
      const info = Deno.statSync(`${folder}/${name}`);
      assert.ok(info.size > 0 && info.size < 2500, `${name} has ${info.size} bytes`);
      assert.equal(modeOf(`${folder}/${name}`), 0o600);
    }
  });
});

Deno.test("Nothing is written where somebody else could have placed a trap", async () => {
  await withNetFolder((net) => {
    const folder = `${net}/kuma-cni.d`;
    const victim = `${net}/victim`;
    Deno.writeTextFileSync(victim, "untouched");
    const refused = () => assert.equal(appendToLogFile(folder, [record("x")]), false);

    Deno.symlinkSync(net, folder);
    refused();
    Deno.removeSync(folder);

    Deno.writeTextFileSync(folder, "a file");
    refused();
    Deno.removeSync(folder);

    Deno.mkdirSync(folder);
    Deno.chmodSync(folder, 0o777);
    refused();
    Deno.chmodSync(folder, 0o700);
    Deno.symlinkSync(victim, `${folder}/kuma-cni.log`);
    refused();
    Deno.removeSync(`${folder}/kuma-cni.log`);
    Deno.linkSync(victim, `${folder}/kuma-cni.log`);
    refused();
    Deno.removeSync(`${folder}/kuma-cni.log`);
    Deno.mkdirSync(`${folder}/kuma-cni.log`);
    refused();
    Deno.removeSync(`${folder}/kuma-cni.log`);

    Deno.chmodSync(net, 0o777);
    refused();
    Deno.chmodSync(net, 0o1777);
    refused();
    Deno.chmodSync(net, 0o755);
    assert.equal(appendToLogFile(folder, [record("x")]), true);
    assert.equal(Deno.readTextFileSync(victim), "untouched");
    assert.equal(appendToLogFile(`${net}/missing/kuma-cni.d`, [record("x")]), false);
  });
});

Deno.test("Levels decide what is recorded", () => {
  const seen = (level: "off" | "info" | "debug") => {
    const records: string[] = [];
    const log = new Logger("kuma-cni", level, (r) => records.push(`${r.severity} ${r.message}`))
      .with({ a: 1 });
    log.debug("d");
    log.info("i");
    log.warn("w");
    log.error("e");
    return records;
  };
  assert.deepEqual(seen("off"), []);
  assert.deepEqual(seen("info"), ["info i", "warn w", "error e"]);
  assert.deepEqual(seen("debug"), ["debug d", "info i", "warn w", "error e"]);
});
