/** A small real program that comes in versions. */

/** Byte of an ELF file that means nothing and so can tell versions apart (elf(5), `EI_PAD`). */
export const versionOffset = 9;

/** The bytes of sleep(1) with a version number in it, which makes its hash another one. */
export function sleepingProgram(version: number): Uint8Array<ArrayBuffer> {
  const program = Deno.readFileSync("/bin/sleep");
  program[versionOffset] = version;
  return program;
}
