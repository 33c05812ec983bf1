import { deepEqual, equal } from "node:assert/strict";
import { checksOf, factsIn, sectionOf, withSection } from "../scripts/e2e/verification.ts";

const report = `<testsuites>
<testcase name="a" classname="x" time="1.5" line="1" col="6">
</testcase>
<testcase name="b" classname="x" time="2.000" line="1" col="6">
  <failure message="1 test step failed">1 test step failed.</failure>
</testcase>
<testcase name="a &gt; says &quot;no&quot;" classname="x" time="0.500" line="1" col="39">
</testcase>
<testcase name="b &gt; fails" classname="x" time="1.204" line="1" col="80">
  <failure message="no">Error: no &lt;/testcase&gt;</failure>
</testcase>
<testcase name="b &gt; is left out" classname="x" time="0.000"><skipped/></testcase>
</testsuites>`;

Deno.test("the checks of a run are its steps, and tests that failed", () => {
  deepEqual(checksOf(report, false), [
    { name: "b", passed: false, milliseconds: 2000 },
    { name: 'a > says "no"', passed: true, milliseconds: 500 },
    { name: "b > fails", passed: false, milliseconds: 1204 },
  ]);
});

Deno.test("a run that crashed has a failed check", () => {
  deepEqual(checksOf("", false).map(({ passed }) => passed), [false]);
  equal(checksOf(report, false).length, 3);
});

Deno.test("a tier's section takes the place of its older one alone", () => {
  const run = (passed: boolean) =>
    sectionOf({
      checks: [{ name: "x", passed, milliseconds: 100 }],
      seconds: 60,
      facts: ["runc 1"],
    });
  const both = withSection(withSection("# Head\n", "one", run(false)), "two", run(true));
  const again = withSection(both, "one", run(true));
  equal(again.match(/begin of one/g)?.length, 1);
  equal(again.includes("**failed**"), false);
  equal(again, withSection(withSection("# Head\n", "one", run(true)), "two", run(true)));
});

Deno.test("a run tells once what it ran on, and how long it took to make what was missing", () => {
  const facts = ["runc 1", "runc 1", "two nodes"];
  deepEqual(factsIn(`${facts.join("\n")}\n`), ["runc 1", "two nodes"]);
  // Kubernetes waits for Go, which is made meanwhile.
  const made = ["made kubernetes 0 600000", "made go 6000 60000", "made etcd 900000 906000"];
  deepEqual(factsIn([...facts, ...made].join("\n")), [
    "runc 1",
    "two nodes",
    "10.1 minutes of it to fetch and build what the cache had not: kubernetes, go, etcd",
  ]);
});
