/** What this process may do beyond an ordinary user. Facts: capabilities(7), proc(5). */
import { readKernelFile } from "./kernel_file.ts";

const numbers = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21 } as const;

/** A capability that something here needs. */
export type Capability = keyof typeof numbers;

/**
 * Tells which of these capabilities are missing in the effective set of this process.
 *
 * @throws {LinuxError} when `/proc` cannot be read. Needs `--allow-ffi`.
 */
export function missingCapabilities(wanted: readonly Capability[]): Capability[] {
  const set = /^CapEff:\s*([0-9a-f]+)$/m.exec(readKernelFile("/proc/self/status"))?.[1] ?? "0";
  const effective = BigInt(`0x${set}`);
  return wanted.filter((name) => ((effective >> BigInt(numbers[name])) & 1n) === 0n);
}
