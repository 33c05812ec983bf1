/**
 * Runs the end-to-end tests: both programs under the runtimes and the Kubernetes of today. What they
 * are made of is fetched and built once (`scripts/e2e/parts.ts`).
 */
import { parseArgs } from "node:util";
import { messageOf } from "../src/text/message_of.ts";
import { build, root } from "./build.ts";
import { cache } from "./e2e/cache.ts";
import { removeCgroupsOf } from "./e2e/cgroups.ts";
import { type Check, checksOf, factsIn, sectionOf, withSection } from "./e2e/verification.ts";
import { installMissingPackages } from "./packages.ts";
import { supervise, TASK_VARIABLE } from "./supervise.ts";
import { identityOf } from "./task_owner.ts";
import { runTestFile } from "./test_process.ts";

/** Longest time for one tier; the first run of the cluster's builds Kubernetes twice. */
const tierLimit = 75 * 60_000;
const verification = `${root}/docs/verification.md`;

function tierNames(): string[] {
  return [...Deno.readDirSync(`${root}/tests/e2e`)].map(({ name }) => name)
    .filter((name) => name.endsWith("_test.ts")).map((name) => name.replace(/_test\.ts$/, ""))
    .sort();
}

const help = `Usage: deno task e2e [--write] [--filter TEXT] [TIER...]

Runs the tests of each tier in tests/e2e as root, all of them unless told: ${
  tierNames().join(", ")
}.
Programs of others, pinned by version and hash, are fetched or built once and kept in
${cache} (KUMA_CNI_E2E_CACHE names another folder). A first run with a cluster builds
Kubernetes twice, 5 to 9 minutes each on two cores. All that the tests make goes with them, also
when they are interrupted or killed.

  --write         put versions, results and times into docs/verification.md
  --filter TEXT   only tests whose name has TEXT; nothing is written then
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    options: {
      write: { type: "boolean" },
      filter: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
    allowPositionals: true,
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const known = tierNames();
  for (const name of positionals) {
    if (known.includes(name)) continue;
    throw new TypeError(`No tier has the name "${name}"; there are ${known.join(", ")}`);
  }
  if (Deno.uid() !== 0) {
    throw new Error("The end-to-end tests make network namespaces: run the same command as root");
  }
  await installMissingPackages(`${root}/scripts/debian_packages.txt`);
  await installMissingPackages(`${root}/scripts/e2e/debian_packages.txt`);
  await build();
  let passed = 0, failed = 0;
  for (const tier of positionals.length > 0 ? positionals : known) {
    const started = performance.now();
    const checks = await run(tier, values.filter);
    if (checks.length === 0 && values.filter === undefined) {
      checks.push({ name: "the tier has tests that run", passed: false, milliseconds: 0 });
    }
    const seconds = (performance.now() - started) / 1000;
    const bad = checks.filter((check) => !check.passed);
    console.log(`\n${tier}: ${checks.length} checks in ${seconds.toFixed(0)} s`);
    for (const { name, milliseconds, ...check } of checks) {
      const result = check.passed ? "ok    " : "FAILED";
      console.log(`  ${result} ${(milliseconds / 1000).toFixed(1).padStart(6)} s  ${name}`);
    }
    for (const line of await factsOf(tier)) console.log(`  - ${line}`);
    passed += checks.length - bad.length;
    failed += bad.length;
    if (values.write && values.filter === undefined) {
      const text = await Deno.readTextFile(verification);
      const facts = await factsOf(tier);
      await Deno.writeTextFile(
        verification,
        withSection(text, tier, sectionOf({ checks, seconds, facts })),
      );
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed > 0 || passed === 0 ? 1 : 0;
}

async function run(tier: string, filter: string | undefined): Promise<Check[]> {
  await Deno.writeTextFile(factsFile(tier), "");
  const { report, success, output } = await runTestFile(`tests/e2e/${tier}_test.ts`, {
    filter,
    env: { KUMA_CNI_E2E_FACTS: factsFile(tier) },
    limit: tierLimit,
  });
  if (output !== "") console.error(output.trimEnd());
  return checksOf(report, success);
}

/** Where a tier's tests say what they have run on, a line each. */
function factsFile(tier: string): string {
  return `${Deno.env.get("TMPDIR") || "/tmp"}/kuma-e2e-${tier}-${Deno.pid}.facts`;
}

async function factsOf(tier: string): Promise<string[]> {
  return factsIn(await Deno.readTextFile(factsFile(tier)));
}

if (import.meta.main) {
  if (!Deno.env.get(TASK_VARIABLE)) {
    // The last thing that this process does, whatever has ended its work.
    const owner = identityOf(Deno.pid);
    globalThis.addEventListener("unload", () => removeCgroupsOf(owner));
  }
  await supervise(import.meta.url, async () => {
    try {
      return await main();
    } catch (error) {
      console.error(messageOf(error));
      console.log("0 passed, 1 failed");
      return 1;
    }
  });
}
