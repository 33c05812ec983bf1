/** The version of kuma-cni and install-cni; a test keeps it equal to that of `deno.json`. */
export const VERSION = "0.1.0";

/** What the program was built from: commit and its date. The build puts it in place of this text. */
export const SOURCES = "sources as they are";

/** Returns the line that a program answers to `--version`. */
export function versionLine(program: string): string {
  return `${program} ${VERSION} (${SOURCES})`;
}
