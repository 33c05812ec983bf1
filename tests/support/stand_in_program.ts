/**
 * Stand-ins of the plugin that can be started and answer VERSION: a script, and the smallest ELF
 * program with an interpreter slot as the build makes it, with a loader of a few instructions.
 */
import { interpreterMarker, interpreterSlotSize } from "../../installer/host/interpreter.ts";

const answer = '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}\n';

/** A plugin without libraries. */
export const scriptPlugin = `#!/bin/sh\necho '${answer.trim()}'\n`;

const pageSize = 0x1000;

/** A program that has no code of its own: its loader does everything. */
export function programWithSlot(version: string): Uint8Array<ArrayBuffer> {
  const tail = new TextEncoder().encode(`program of version ${version}`);
  const slotAt = 64 + 2 * 56 + interpreterMarker().length;
  const bytes = new Uint8Array(slotAt + interpreterSlotSize + tail.length);
  header(bytes, { entry: 0x400000, segments: 2 });
  segment(bytes, 0, { type: 1, flags: 4, offset: 0, address: 0x400000, size: bytes.length });
  segment(bytes, 1, { type: 3, flags: 4, offset: slotAt, address: 0, size: interpreterSlotSize });
  bytes.set(interpreterMarker(), slotAt - interpreterMarker().length);
  bytes.set(tail, slotAt + interpreterSlotSize);
  return bytes;
}

/** A loader for x86-64 that writes the answer and ends with an exit code. */
export function loader(version: string, exitCode = 0): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(answer);
  const little = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, 0];
  const code = [
    ...[0xb8, ...little(1)], // mov eax, 1 (write)
    ...[0xbf, ...little(1)], // mov edi, 1 (stdout)
    ...[0x48, 0x8d, 0x35, ...little(19)], // lea rsi, [rip + 19]: behind the last instruction
    ...[0xba, ...little(text.length)], // mov edx, length
    ...[0x0f, 0x05], // syscall
    ...[0xb8, ...little(231)], // mov eax, 231 (exit_group)
    ...[0xbf, ...little(exitCode)], // mov edi, exit code
    ...[0x0f, 0x05], // syscall
  ];
  const at = 64 + 56;
  const tail = new TextEncoder().encode(`loader of version ${version}`);
  const bytes = new Uint8Array(at + code.length + text.length + tail.length);
  header(bytes, { entry: at, segments: 1 });
  segment(bytes, 0, { type: 1, flags: 5, offset: 0, address: 0, size: bytes.length });
  bytes.set(code, at);
  bytes.set(text, at + code.length);
  bytes.set(tail, at + code.length + text.length);
  return bytes;
}

/** Facts: elf(5), "ELF header". The program is fixed in place, its loader goes anywhere. */
function header(bytes: Uint8Array, { entry, segments }: { entry: number; segments: number }): void {
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, segments === 2 ? 2 : 3, true);
  view.setUint16(18, 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(entry), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, segments, true);
}

function segment(
  bytes: Uint8Array,
  index: number,
  { type, flags, offset, address, size }: Record<
    "type" | "flags" | "offset" | "address" | "size",
    number
  >,
): void {
  const view = new DataView(bytes.buffer, 64 + index * 56);
  view.setUint32(0, type, true);
  view.setUint32(4, flags, true);
  view.setBigUint64(8, BigInt(offset), true);
  view.setBigUint64(16, BigInt(address), true);
  view.setBigUint64(24, BigInt(address), true);
  view.setBigUint64(32, BigInt(size), true);
  view.setBigUint64(40, BigInt(size), true);
  view.setBigUint64(48, BigInt(pageSize), true);
}
