/** Runs a file of tests in a process of its own: one that crashes takes no other with it. */
import { root } from "./build.ts";

/** Choices of a run. */
export interface TestProcessOptions {
  /** Only tests whose name contains this text. */
  readonly filter?: string | undefined;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds after which it is killed: a test that hangs is one that fails. */
  readonly limit: number;
}

/** What came of a file. */
export interface TestProcessResult {
  /** JUnit report of `deno test`; empty when the process did not come that far. */
  readonly report: string;
  /** Whether the process has ended with exit code 0. */
  readonly success: boolean;
}

/**
 * Runs a file of tests and waits for its end.
 *
 * @param file Its path below the repository's root.
 */
export async function runTestFile(
  file: string,
  { filter, env = {}, limit }: TestProcessOptions,
): Promise<TestProcessResult> {
  const report = await Deno.makeTempFile({ prefix: "kuma-test-", suffix: ".xml" });
  try {
    // Types are checked by `deno task check`, for all files at once.
    const child = new Deno.Command(Deno.execPath(), {
      args: ["test", "--allow-all", "--no-check", `--junit-path=${report}`]
        .concat(filter === undefined ? [] : [`--filter=${filter}`], file),
      cwd: root,
      env,
      stdin: "null",
    }).spawn();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, limit);
    const { success } = await child.status;
    clearTimeout(timer);
    if (late) console.error(`${file} did not end within ${limit / 60_000} minutes`);
    return { report: await Deno.readTextFile(report), success };
  } finally {
    await Deno.remove(report);
  }
}
