import { equal, throws } from "node:assert/strict";
import {
  PT_INTERP,
  readElfHeader,
  readerOf,
  readProgramHeaders,
} from "../installer/host/elf_header.ts";

/** A 64-bit little-endian file with one program header. */
function file(change: (view: DataView) => void = () => {}): Uint8Array {
  const bytes = new Uint8Array(64 + 56);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
  const view = new DataView(bytes.buffer);
  view.setUint16(18, 62, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, PT_INTERP, true);
  change(view);
  return bytes;
}

Deno.test("headers are read, and what is cut off or of another kind is refused", () => {
  const read = (bytes: Uint8Array) => readProgramHeaders(readerOf(bytes));
  equal(readElfHeader(readerOf(file())).machine, "x86_64");
  equal(read(file())[0]?.type, PT_INTERP);
  throws(() => read(file((view) => view.setUint16(54, 32, true))), /header table is damaged/);
  throws(() => read(file().subarray(0, 100)), /header table is damaged/);
  for (const at of [0, 4, 5]) {
    throws(() => read(file((view) => view.setUint8(at, 9))), /64-bit little-endian ELF/);
  }
  throws(() => read(file().subarray(0, 63)), /64-bit little-endian ELF/);
});
