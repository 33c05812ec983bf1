/** How much memory a program takes at most, as the kernel counts it. */

/** What a program did, how long it took and what it needed. */
export interface MeasuredRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly milliseconds: number;
  /** Resident memory at its highest, in MiB, as far as it was looked. */
  readonly mebibytes: number;
}

/** Runs a program to its end, and looks at its memory meanwhile. */
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
  const watch = setInterval(() => {
    try {
      const status = Deno.readTextFileSync(`/proc/${child.pid}/status`);
      highest = Math.max(highest, Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0));
    } catch {
      // It has ended.
    }
  }, 5);
  try {
    const { code, stdout, stderr } = await child.output();
    const text = new TextDecoder();
    return {
      code,
      stdout: text.decode(stdout),
      stderr: text.decode(stderr),
      milliseconds: performance.now() - started,
      mebibytes: highest / 1024,
    };
  } finally {
    clearInterval(watch);
  }
}
