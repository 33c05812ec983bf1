/** Memory of a running process. */

/** Resident memory in MiB (proc(5), `smaps_rollup` and `status`). */
export interface Memory {
  readonly resident: number;
  /** Without pages of files, which the kernel can drop, and shared ones. */
  readonly private: number;
  readonly peak: number;
}

/** Reads it of a process. */
export function memoryOf(pid: number): Memory {
  const text = Deno.readTextFileSync(`/proc/${pid}/status`);
  const mebibytes = (key: string) =>
    Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(text)?.[1]) / 1024;
  return { resident: mebibytes("VmRSS"), private: mebibytes("RssAnon"), peak: mebibytes("VmHWM") };
}
