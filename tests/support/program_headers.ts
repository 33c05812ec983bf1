/** What the program headers of a file say about how it is put into memory. */
import { readerOf, readProgramHeaders } from "../../installer/host/elf_header.ts";

/** Types of program headers: elf.h. */
const names: Readonly<Record<number, string>> = {
  1: "LOAD",
  2: "DYNAMIC",
  3: "INTERP",
  0x6474e551: "GNU_STACK",
  0x6474e552: "GNU_RELRO",
};

/** Reads them. Flags are 1 for executable, 2 for writable, 4 for readable. */
export function describeHeaders(program: Uint8Array): {
  readonly types: readonly string[];
  readonly stackFlags: number | undefined;
  readonly writableAndExecutable: boolean;
  readonly needsInterpreter: boolean;
} {
  const headers = readProgramHeaders(readerOf(program));
  const types = headers.map(({ type }) => names[type] ?? String(type));
  return {
    types,
    stackFlags: headers[types.indexOf("GNU_STACK")]?.flags,
    writableAndExecutable: headers.some(({ flags }) => (flags & 3) === 3),
    needsInterpreter: types.includes("INTERP"),
  };
}
