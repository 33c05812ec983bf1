import { deepEqual } from "node:assert/strict";
import { outcomeOf, type TestOutcome } from "../scripts/test_report.ts";

/** Runs a test file as the test command does and counts. */
async function outcomeOfFile(source: string, filter?: string): Promise<TestOutcome> {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    await Deno.writeTextFile(`${folder}/sample_test.ts`, source);
    await Deno.writeTextFile(`${folder}/report.xml`, "");
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "--allow-all", "--no-check", "--no-config", "--junit-path=report.xml"]
        .concat(filter === undefined ? [] : [`--filter=${filter}`], "sample_test.ts"),
      cwd: folder,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).output();
    const report = await Deno.readTextFile(`${folder}/report.xml`);
    return outcomeOf(report, success);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const cases: { name: string; source: string; filter?: string; outcome: TestOutcome }[] = [
  {
    name: "passed, failed and ignored tests are counted, a failed step with its test",
    source: `
      Deno.test("passes", () => {});
      Deno.test.ignore("is ignored", () => {});
      Deno.test("fails", () => { throw new Error("tests=\\"9\\" <testsuites tests=\\"9\\">"); });
      Deno.test("has steps", async (t) => {
        await t.step("passes", () => {});
        await t.step("fails", () => { throw new Error("no"); });
      });`,
    outcome: { passed: 2, failed: 3, ignored: 1 },
  },
  {
    name: "a leak fails its test",
    source: `Deno.test("leaks", () => { Deno.openSync("/dev/null"); });`,
    outcome: { passed: 0, failed: 1, ignored: 0 },
  },
  {
    name: "a file that does not load is one failure",
    source: `import "./missing.ts"; Deno.test("never", () => {});`,
    outcome: { passed: 0, failed: 1, ignored: 0 },
  },
  {
    name: "a file that throws while it loads is one failure",
    source: `Deno.test("never", () => {}); throw new Error("at the top");`,
    outcome: { passed: 0, failed: 1, ignored: 0 },
  },
  {
    name: "a process that is killed is one failure",
    source: `Deno.test("kills", () => Deno.kill(Deno.pid, "SIGKILL"));`,
    outcome: { passed: 0, failed: 1, ignored: 0 },
  },
  {
    name: "a file without tests is one failure",
    source: ``,
    outcome: { passed: 0, failed: 1, ignored: 0 },
  },
  {
    name: "a test of another name than the expected one is ignored, not failed",
    source: `Deno.test("other", () => {});`,
    filter: "expected",
    outcome: { passed: 0, failed: 0, ignored: 1 },
  },
];

for (const { name, source, filter, outcome } of cases) {
  Deno.test(name, async () => deepEqual(await outcomeOfFile(source, filter), outcome));
}
