/** What this machine's cgroups look like, for {@linkcode findPodCgroup}. */
import { unlessError } from "./errno.ts";
import { readKernelFile } from "./kernel_file.ts";
import type { CgroupView } from "./pod_cgroup.ts";

/**
 * Looks at the machine. Needs `--allow-ffi` and `--allow-read`.
 *
 * @throws {LinuxError} when `/proc` cannot be read.
 */
export function lookAtCgroups(): CgroupView {
  return {
    mounts: readKernelFile("/proc/self/mountinfo"),
    // A kernel without cgroups of version 1 has no such file.
    controllers: unlessError("ENOENT", () => readKernelFile("/proc/cgroups")) ?? "",
    isFolder: (path) => {
      try {
        return Deno.lstatSync(path).isDirectory;
      } catch {
        return false;
      }
    },
    folders: (path) => {
      try {
        return [...Deno.readDirSync(path)].filter((entry) => entry.isDirectory)
          .map(({ name }) => name);
      } catch {
        // Pods come and go while we look.
        return [];
      }
    },
  };
}
