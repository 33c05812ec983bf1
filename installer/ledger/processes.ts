/** The processes of the node with what proves whose they are; needs the node's process IDs. */
import { LinuxError } from "../../src/linux/errno.ts";
import { readKernelFile } from "../../src/linux/kernel_file.ts";
import { type CgroupPlace, placeInCgroups } from "./cgroup.ts";

/** One process at one moment. */
export interface SeenProcess {
  readonly pid: number;
  /** Start time in ticks since the boot: with it, a number that was given anew is noticed. */
  readonly start: string;
  readonly place: CgroupPlace;
  /** Device and inode of its network namespace; absent when this program may not see it. */
  readonly namespace?: string;
}

/**
 * Looks at all processes; those that end meanwhile are left out.
 *
 * @throws {Deno.errors} when `/proc` cannot be listed.
 */
export function seeProcesses(): SeenProcess[] {
  return Array.from(Deno.readDirSync("/proc"), ({ name }) => name)
    .filter((name) => /^[1-9][0-9]*$/.test(name))
    .flatMap((name) => seeProcess(Number(name)) ?? []);
}

/** Looks at one process; `undefined` when there is none of that number, or it has ended. */
export function seeProcess(pid: number): SeenProcess | undefined {
  try {
    // Behind the name, which stands in brackets and can hold anything: state, then the 20th field.
    const stat = readKernelFile(`/proc/${pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return undefined;
    const place = placeInCgroups(readKernelFile(`/proc/${pid}/cgroup`));
    const namespace = namespaceOf(pid);
    return {
      pid,
      start: fields[19] ?? "",
      place,
      ...(namespace === undefined ? {} : { namespace }),
    };
  } catch (error) {
    if (error instanceof LinuxError && ["ENOENT", "ESRCH"].includes(error.code)) return undefined;
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function namespaceOf(pid: number): string | undefined {
  try {
    const { dev, ino } = Deno.statSync(`/proc/${pid}/ns/net`);
    return `${dev}:${ino}`;
  } catch (error) {
    // A kernel's thread has none to show, and of others' processes it takes CAP_SYS_PTRACE.
    if (error instanceof Deno.errors.NotFound) throw error;
    return undefined;
  }
}
