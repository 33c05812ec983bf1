/** Text for people at a terminal, and for the programs that read it through a pipe. */

/** Exit code of a program whose reader has gone, as a shell shows the signal SIGPIPE. */
const READER_GONE = 141;

/**
 * Writes text to standard output, whole. When the reader of a pipe has gone, as `head` does, the
 * program ends in silence.
 */
export function print(text: string): void {
  const bytes = new TextEncoder().encode(text.endsWith("\n") ? text : `${text}\n`);
  try {
    for (let written = 0; written < bytes.length;) {
      written += Deno.stdout.writeSync(bytes.subarray(written));
    }
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) Deno.exit(READER_GONE);
    throw error;
  }
}

/** Writes a warning to standard error. */
export function warn(sentence: string): void {
  console.error(`Warning: ${sentence}`);
}

/** Marks of emphasis; on anything but a terminal, and with `NO_COLOR`, each returns its text as it is. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  yellow(text: string): string;
  green(text: string): string;
}

const codes = { bold: 1, dim: 2, red: 31, yellow: 33, green: 32 } as const;

/**
 * Returns the marks for standard output.
 *
 * @param colored whether to colour; by default what the terminal and `NO_COLOR` (no-color.org) say
 */
export function styleOf(colored: boolean = isColored()): Style {
  const mark = (code: number) => (text: string) => colored ? `\x1b[${code}m${text}\x1b[0m` : text;
  return {
    bold: mark(codes.bold),
    dim: mark(codes.dim),
    red: mark(codes.red),
    yellow: mark(codes.yellow),
    green: mark(codes.green),
  };
}

function isColored(): boolean {
  return Deno.stdout.isTerminal() && !Deno.env.get("NO_COLOR") && Deno.env.get("TERM") !== "dumb";
}
