/**
 * The bound of the memory that this process's container may use.
 *
 * Facts: cgroups(7), `memory.max` of version 2, `memory.limit_in_bytes` of version 1.
 */
import { readKernelFile } from "./kernel_file.ts";

/**
 * Returns the bound in bytes; `undefined` without one. In a container the own cgroup is usually seen as
 * the root of the tree, on a host under its path.
 *
 * @param read Reads a file; throws when it is missing.
 */
export function memoryLimit(
  read: (path: string) => string = readKernelFile,
): number | undefined {
  const found: number[] = [];
  const look = (path: string) => {
    try {
      const text = read(path).trim();
      // Version 1 has a number that no machine's memory reaches for "no bound".
      if (/^\d+$/.test(text) && Number(text) < 2 ** 60) found.push(Number(text));
    } catch {
      // Not this version, or not mounted.
    }
  };
  let lines: string[] = [];
  try {
    lines = read("/proc/self/cgroup").split("\n");
  } catch {
    // No /proc: the usual places are looked at all the same.
  }
  for (const folder of ["", ...lines.map((line) => line.split(":").slice(2).join(":"))]) {
    const path = folder === "/" ? "" : folder;
    look(`/sys/fs/cgroup${path}/memory.max`);
    look(`/sys/fs/cgroup/memory${path}/memory.limit_in_bytes`);
  }
  return found.length === 0 ? undefined : Math.min(...found);
}
