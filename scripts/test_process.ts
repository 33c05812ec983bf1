/** Runs a file of tests in a process of its own: one that crashes takes no other with it. */
import { root } from "./build.ts";

/** Choices of a run. */
export interface TestProcessOptions {
  /** Only tests whose name contains this text. */
  readonly filter?: string | undefined;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds after which it is killed: a test that hangs is one that fails. */
  readonly limit: number;
  /** Whether what it prints is kept for the result; else it is printed as it comes. */
  readonly keepsOutput?: boolean;
}

/** What came of a file. */
export interface TestProcessResult {
  /** JUnit report of `deno test`; empty when the process did not come that far. */
  readonly report: string;
  /** Whether the process has ended with exit code 0. */
  readonly success: boolean;
  /** What it printed on both streams, where that was kept. */
  readonly output: string;
}

/** Gives the words behind it one file for both streams, so that their lines keep their order. */
const INTO_FILE = 'output=$1; shift; exec "$@" >"$output" 2>&1';

/**
 * Runs a file of tests and waits for its end.
 *
 * @param file Its path below the repository's root.
 */
export async function runTestFile(
  file: string,
  { filter, env = {}, limit, keepsOutput = false }: TestProcessOptions,
): Promise<TestProcessResult> {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  const report = `${folder}/report.xml`, output = `${folder}/output`;
  try {
    await Deno.writeTextFile(report, "");
    await Deno.writeTextFile(output, "");
    // Types are checked by `deno task check`, for all files at once.
    const test = [Deno.execPath(), "test", "--allow-all", "--no-check", `--junit-path=${report}`]
      .concat(filter === undefined ? [] : [`--filter=${filter}`], file);
    const [program = "", ...args] = keepsOutput
      ? ["sh", "-c", INTO_FILE, "sh", output, ...test]
      : test;
    const child = new Deno.Command(program, { args, cwd: root, env, stdin: "null" }).spawn();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, limit);
    const { success } = await child.status;
    clearTimeout(timer);
    const words = late ? `${file} did not end within ${limit / 60_000} minutes\n` : "";
    return {
      report: await Deno.readTextFile(report),
      success,
      output: await Deno.readTextFile(output) + words,
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
