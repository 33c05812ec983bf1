/** What is in a map of the kernel's BPF machine: programs only ask for entries that they know. */
import { Attributes, bpf, Command } from "../../src/linux/bpf_call.ts";
import { unlessError } from "../../src/linux/errno.ts";
import type { FileDescriptor } from "../../src/linux/libc.ts";

/** Lists the keys of a map. */
export function bpfMapKeys(map: FileDescriptor, keyBytes: number): Uint8Array<ArrayBuffer>[] {
  const keys: Uint8Array<ArrayBuffer>[] = [];
  for (;;) {
    const next = new Uint8Array(keyBytes);
    const attributes = new Attributes().u32(0, map.number).pointer(16, next);
    const last = keys.at(-1);
    if (last !== undefined) attributes.pointer(8, last);
    const listed = unlessError(
      "ENOENT",
      () => bpf("Cannot list the keys of a BPF map", Command.mapNextKey, attributes),
    );
    if (listed === undefined) return keys;
    keys.push(next);
  }
}
