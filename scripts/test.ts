/**
 * Runs all tests: installs the Debian packages that they need, builds the programs, runs each test
 * file in a process of its own (one that crashes or does not load takes no other with it), two at a
 * time, and prints as last line `N passed, N failed`.
 */
import { parseArgs } from "node:util";
import { messageOf } from "../src/text/message_of.ts";
import { build, root } from "./build.ts";
import { installMissingPackages } from "./packages.ts";
import { supervise } from "./supervise.ts";
import { inLanes, runsAlone } from "./test_lanes.ts";
import { runTestFile } from "./test_process.ts";
import { outcomeOf } from "./test_report.ts";

/** Longest time for one file. */
const fileLimit = 15 * 60_000;
const longFileLimit = 120 * 60_000;

/** Files at once: tests wait much, and two processors are what small machines have. */
const usualJobs = 2;

const help = `Usage: deno task test [--long] [--jobs N] [FILTER]

Runs tests/*_test.ts as root; missing Debian packages of scripts/debian_packages.txt are installed.
All that tests make goes with them, also when they are interrupted or killed.

  FILTER   only files whose name contains it; when there is none, only tests whose name contains it
  --long   also tests that take long: those in *_long_test.ts, and others that are thorough when they
           see KUMA_CNI_LONG_TESTS=1
  --jobs   how many files at once (${usualJobs}); one prints as it goes, several print each file when it
           has ended. Files with a line "// Runs alone: …" run when the others have ended
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    options: {
      long: { type: "boolean" },
      jobs: { type: "string", default: String(usualJobs) },
      help: { type: "boolean", short: "h" },
    },
    allowPositionals: true,
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const filter = positionals[0];
  const long = values.long ?? false;
  if (!/^[1-9]\d?$/.test(values.jobs)) {
    throw new Error(
      `Cannot run "${values.jobs}" files at once: --jobs wants a number from 1 to 99`,
    );
  }
  const all = testFiles(long);
  const matching = filter === undefined ? all : all.filter((f) => f.includes(filter));
  const byName = matching.length === 0 && filter !== undefined;
  const files = byName ? all.filter((file) => mayName(file, filter)) : matching;
  if (files.length === 0) {
    throw new Error(`No test: the name of no file in tests/ and of no test contains "${filter}"`);
  }
  if (Deno.uid() !== 0) {
    throw new Error(
      "The tests need root, since they make network namespaces: run the same command as root",
    );
  }

  await installMissingPackages(`${root}/scripts/debian_packages.txt`);
  await build();

  const started = performance.now();
  let passed = 0, failed = 0, ignored = 0;
  const failures: string[] = [];
  const lanes = Math.min(Number(values.jobs), files.length);
  const isAlone = (file: string) => runsAlone(Deno.readTextFileSync(`${root}/${file}`));
  await inLanes(files, { lanes, isAlone }, async (file) => {
    const { report, success, output } = await runTestFile(file, {
      filter: byName ? filter : undefined,
      env: long ? { KUMA_CNI_LONG_TESTS: "1" } : {},
      limit: long ? longFileLimit : fileLimit,
      keepsOutput: lanes > 1,
    });
    if (output !== "") console.log(output.trimEnd());
    const outcome = outcomeOf(report, success);
    passed += outcome.passed;
    failed += outcome.failed;
    ignored += outcome.ignored;
    if (outcome.failed > 0) failures.push(`${file}: ${outcome.failed}`);
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(`\n${files.length} files in ${seconds} s`);
  if (!long) console.log('Longer tests were left out: "deno task test:long" runs them, too');
  if (ignored > 0 && !byName) console.log(`Ignored tests: ${ignored}`);
  if (failures.length > 0) console.log(`Failed tests by file:\n  ${failures.join("\n  ")}`);
  if (passed + failed === 0) console.log("No test ran");
  console.log(`${passed} passed, ${failed} failed`);
  return failed > 0 || passed === 0 ? 1 : 0;
}

function testFiles(long: boolean): string[] {
  const files = [...Deno.readDirSync(`${root}/tests`)].map((entry) => entry.name);
  return files.filter((name) => name.endsWith("_test.ts"))
    .filter((name) => long || !name.endsWith("_long_test.ts"))
    .sort().map((name) => `tests/${name}`);
}

/**
 * Whether a file may have a test whose name contains a text. Names have parts that are known only when
 * the file runs, but the words of these stand elsewhere in it.
 */
function mayName(file: string, text: string): boolean {
  const source = Deno.readTextFileSync(`${root}/${file}`);
  return source.includes(text) ||
    text.split(/\s+/).every((word) => source.includes(word)) && text.includes(" ");
}

if (import.meta.main) {
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
