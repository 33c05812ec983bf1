/** Counts what one test file came to, from the JUnit report of `deno test`. */

/** Numbers of tests and their steps. */
export interface TestOutcome {
  readonly passed: number;
  readonly failed: number;
  readonly ignored: number;
}

/**
 * Reads the report of one file. A file that fails without a failed test (it did not load, crashed,
 * hung or failed outside of tests) counts as one failed test, and so does a file without any test.
 *
 * @param report Text of the report; empty when the file did not come that far.
 * @param success Whether the process ended with exit code 0.
 * @returns Numbers; tests that a name filter left out count as ignored.
 */
export function outcomeOf(
  report: string,
  success: boolean,
): TestOutcome {
  const summary = /<testsuites\b[^>]*>/.exec(report)?.[0] ?? "";
  const tests = attribute(summary, "tests");
  const failed = attribute(summary, "failures") + attribute(summary, "errors");
  const ignored = [...report.matchAll(/<testsuite [^>]*>/g)]
    .reduce((sum, [tag]) => sum + attribute(tag, "disabled"), 0);
  return {
    passed: tests - failed - ignored,
    failed: failed === 0 && (!success || tests === 0) ? 1 : failed,
    ignored,
  };
}

function attribute(tag: string, name: string): number {
  return Number(new RegExp(` ${name}="(\\d+)"`).exec(tag)?.[1] ?? 0);
}
