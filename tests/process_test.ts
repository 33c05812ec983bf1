import assert from "node:assert/strict";
import { LinuxError } from "../src/linux/errno.ts";
import { readLegacyTables } from "../src/linux/legacy_tables.ts";
import { withPrivateMounts } from "../src/linux/private_mounts.ts";
import { type Program, runProgram, runPrograms } from "../src/linux/process.ts";
import { createNamespace } from "./support/topology.ts";
import { tool } from "./support/iptables.ts";

const env = { PATH: "/usr/bin:/bin" };

function shell(script: string, input?: string): Program {
  return {
    path: "/bin/sh",
    args: ["-c", script],
    env,
    ...(input === undefined ? {} : { input }),
  };
}

Deno.test("a program's status, output and signal come back", () => {
  const result = runProgram(shell("cat; echo e >&2; exit 7", "ä\n"), 5000);
  const plain = { status: 7, signal: undefined, timedOut: false, stdout: "ä\n", stderr: "e\n" };
  assert.deepEqual(result, plain);
  const { status, signal } = runProgram(shell("kill -TERM $$"), 5000);
  assert.deepEqual([status, signal], [undefined, 15]);
});

Deno.test("large input and output pass, larger than any pipe", () => {
  const input = "0123456789abcdef".repeat(200_000);
  assert.equal(runProgram(shell("cat", input), 20_000).stdout, input);
});

Deno.test("output without end is an error, not an empty text", () => {
  assert.throws(
    () => runProgram(shell("head -c 17000000 /dev/zero"), 20_000),
    (error) => error instanceof LinuxError && error.code === "EMSGSIZE",
  );
});

Deno.test("a program starts clean: no environment, no open files, default signals", () => {
  const { stdout } = runProgram({
    path: "/bin/sh",
    args: ["-c", "/usr/bin/env; ls /proc/$$/fd; exec grep -E 'Sig(Blk|Ign)' /proc/self/status"],
    env: { ONLY: "this" },
  }, 5000);
  const lines = stdout.trim().split("\n").filter((line) => !/^(PWD|SHLVL|_)=/.test(line));
  assert.deepEqual(lines, [
    "ONLY=this",
    "0",
    "1",
    "2",
    "SigBlk:\t0000000000000000",
    "SigIgn:\t0000000000000000",
  ]);
});

Deno.test("a program that cannot be started is an error, and stops the others", () => {
  const code = (path: string) => {
    try {
      runPrograms([shell("sleep 30"), { path, args: [], env }], 5000);
    } catch (error) {
      return error instanceof LinuxError ? error.code : String(error);
    }
  };
  const started = performance.now();
  assert.equal(code(`/nonexistent-${crypto.randomUUID()}`), "ENOENT");
  assert.equal(code("/etc/passwd"), "EACCES");
  assert.ok(performance.now() - started < 4000);
});

Deno.test("programs that run at the same time share one time limit, and are killed after it", () => {
  const started = performance.now();
  const results = runPrograms([shell("sleep 30"), shell("echo ok"), shell("sleep 31")], 300);
  assert.ok(performance.now() - started < 2000);
  assert.deepEqual(results.map(({ timedOut }) => timedOut), [true, false, true]);
  assert.deepEqual(results.map(({ signal, status }) => signal ?? status), [9, 0, 9]);
});

Deno.test("a program runs in the network namespace that was entered", () => {
  using namespace = createNamespace();
  const read = () => runProgram(shell("readlink /proc/self/ns/net"), 5000).stdout.trim();
  const outside = read();
  const inside = namespace.run(read);
  assert.match(inside, /^net:\[\d+\]$/);
  assert.notEqual(inside, outside);
  assert.equal(read(), outside);
});

Deno.test("private mounts are seen by the work and its programs, and by nobody else", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-test-mounts-" });
  const [a, b] = [`${folder}/a`, `${folder}/b`];
  Deno.writeTextFileSync(a, "a");
  Deno.writeTextFileSync(b, "b");
  const [home, cwd] = [Deno.readLinkSync("/proc/thread-self/ns/mnt"), Deno.cwd()];
  Deno.chdir(folder);
  try {
    withPrivateMounts([{ source: a, path: b }, { source: a, path: `${folder}/c` }], (problems) => {
      assert.equal(Deno.readTextFileSync(b), "a");
      assert.equal(runProgram(shell(`cat ${b}`), 5000).stdout, "a");
      assert.equal(problems.length, 1);
      assert.match(problems[0] ?? "", /^Cannot mount ".*\/a" over ".*\/c": ENOENT/);
    });
    assert.throws(() =>
      withPrivateMounts([], () => {
        throw new RangeError("thrown");
      }), RangeError);
    assert.equal(Deno.readLinkSync("/proc/thread-self/ns/mnt"), home);
    assert.equal(Deno.cwd(), folder);
    assert.equal(Deno.readTextFileSync("b"), "b");
    assert.equal(await Deno.readTextFile(b), "b");
    assert.equal(Deno.readTextFileSync("/proc/self/mountinfo").includes(folder), false);
  } finally {
    Deno.chdir(cwd);
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("legacy tables are read as the legacy tool sees them, and looking makes none", () => {
  using namespace = createNamespace();
  namespace.run(() => {
    assert.deepEqual(readLegacyTables("ipv4"), []);
    assert.deepEqual(readLegacyTables("ipv6"), []);
    for (const name of ["iptables-legacy-restore", "ip6tables-legacy-restore"]) {
      tool(
        name,
        [],
        `*nat
:EMPTY - [0:0]
:LAST - [0:0]
:A_NAME_OF_TWENTY_EIGHT_BYTES - [0:0]
-A PREROUTING -j A_NAME_OF_TWENTY_EIGHT_BYTES
-A OUTPUT -p tcp -m multiport --dports 1,2,3 -m comment --comment "LAST" -j RETURN
-A OUTPUT -g LAST
-A LAST -j EMPTY
-A LAST -j RETURN
COMMIT
*mangle
:FORWARD DROP [0:0]
COMMIT
`,
      );
    }
    for (const family of ["ipv4", "ipv6"] as const) {
      const tables = new Map(readLegacyTables(family).map((table) => [table.name, table]));
      assert.deepEqual([...tables.keys()].sort(), ["mangle", "nat"]);
      assert.deepEqual(tables.get("mangle")?.rules, []);
      const nat = tables.get("nat");
      assert.deepEqual(nat?.chains.toSorted(), ["A_NAME_OF_TWENTY_EIGHT_BYTES", "EMPTY", "LAST"]);
      assert.deepEqual(nat?.rules.map(({ chain, target }) => [chain, target]), [
        [undefined, "A_NAME_OF_TWENTY_EIGHT_BYTES"],
        [undefined, undefined],
        [undefined, "LAST"],
        ["LAST", "EMPTY"],
        ["LAST", undefined],
      ]);
    }
  });
});
