/** Programs that tests run to their end. */

/** What a program has said. */
export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program with a text on its standard input. */
export async function outputOf(
  [program = "", ...args]: readonly string[],
  input = "",
  env: Readonly<Record<string, string>> = {},
): Promise<Output> {
  const child = new Deno.Command(program, {
    args,
    env,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const output = child.output();
  const stdin = child.stdin.getWriter();
  // A program that fails at once does not read what it is given.
  await stdin.write(new TextEncoder().encode(input)).then(() => stdin.close()).catch(() => {});
  const { code, stdout, stderr } = await output;
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Returns what kubectl has printed. @throws {Error} with its message when it has failed. */
export function kubectlSucceeded(
  args: readonly string[],
  { code, stdout, stderr }: Output,
): string {
  if (code !== 0) throw new Error(`"kubectl ${args.join(" ")}" failed: ${stderr.trim()}`);
  return stdout;
}

/** Runs a program. @throws {Error} with what it said when it fails. */
export function must(program: string, ...args: readonly string[]): void {
  const { success, stderr } = new Deno.Command(program, { args: [...args], stdin: "null" })
    .outputSync();
  if (success) return;
  const reason = new TextDecoder().decode(stderr).trim();
  throw new Error(`"${program} ${args.join(" ")}" failed: ${reason}`);
}
