/** Starts a program and waits for it. */

/**
 * Returns what the program has written to stdout.
 *
 * @param folder Its working directory.
 * @throws {Error} with what it wrote to stderr when it fails.
 */
export async function run(
  program: string,
  args: readonly string[],
  folder?: string,
): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { LC_ALL: "C", NO_COLOR: "1" },
    ...(folder === undefined ? {} : { cwd: folder }),
  }).output();
  const decoder = new TextDecoder();
  if (success) return decoder.decode(stdout);
  throw new Error(`Cannot run ${program} ${args.join(" ")}: ${decoder.decode(stderr).trim()}`);
}
