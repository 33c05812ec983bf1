/**
 * How much memory and time a program takes, as the kernel counts them. Facts: proc_pid_status(5);
 * Documentation/scheduler/sched-stats.rst: the second number of `schedstat` is the time in a run queue.
 */

/** What a program did, how long it took and what it needed. */
export interface MeasuredRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly milliseconds: number;
  /** Milliseconds of these in which its first thread could have run, and others did. */
  readonly starved: number;
  /** Resident memory at its highest, in MiB, as far as it was looked. */
  readonly mebibytes: number;
}

/** Milliseconds after which a program does not end any more. */
const longest = 30_000;

/** Runs a program to its end, and looks at its memory meanwhile; no other may stand in front of it. */
export async function measure(
  [program, ...args]: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<MeasuredRun> {
  const started = performance.now();
  const child = new Deno.Command(program!, {
    args,
    env,
    clearEnv: true,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let highest = 0;
  let starved = 0;
  const watch = setInterval(() => {
    try {
      const status = Deno.readTextFileSync(`/proc/${child.pid}/status`);
      const delay = Deno.readTextFileSync(`/proc/${child.pid}/schedstat`).split(" ")[1];
      starved = Number(delay) / 1e6;
      highest = Math.max(highest, Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0));
    } catch {
      // It has ended.
    }
  }, 5);
  // Killed rather than waited for: then it fails, and does not hang.
  const end = setTimeout(() => child.kill("SIGKILL"), longest);
  try {
    const { code, stdout, stderr } = await child.output();
    const text = new TextDecoder();
    return {
      code,
      stdout: text.decode(stdout),
      stderr: text.decode(stderr),
      milliseconds: performance.now() - started,
      starved,
      mebibytes: highest / 1024,
    };
  } finally {
    clearInterval(watch);
    clearTimeout(end);
  }
}
