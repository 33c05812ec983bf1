/** The processes of the node with what proves whose they are; needs the node's process IDs. */
import { LinuxError } from "../../src/linux/errno.ts";
import { readKernelFile } from "../../src/linux/kernel_file.ts";
import { type CgroupPlace, placeInCgroups } from "./cgroup.ts";

/** One process at one moment. */
export interface SeenProcess {
  readonly pid: number;
  /** Start time in ticks since the boot of a pod's: a number that was given anew is noticed by it. */
  readonly start: string;
  readonly place: CgroupPlace;
  /** Device and inode of its network namespace; absent when this program may not see it. */
  readonly namespace?: string;
}

/** Most processes that are looked at: it takes a moment each, and pods can start as many as they like. */
const mostProcesses = 16_384;

/**
 * Looks at all processes; those that end meanwhile are left out.
 *
 * @throws {RangeError} when there are too many: some could prove nothing.
 * @throws {Deno.errors} when `/proc` cannot be listed.
 */
export function seeProcesses(most: number = mostProcesses): SeenProcess[] {
  const pids = Array.from(Deno.readDirSync("/proc"), ({ name }) => name)
    .filter((name) => /^[1-9][0-9]*$/.test(name));
  if (pids.length > most) {
    throw new RangeError(`The node has ${pids.length} processes, of which ${most} are looked at`);
  }
  return pids.flatMap((name) => seeThreads(Number(name)));
}

/** Looks at one process; `undefined` when there is none of that number, or it has ended. */
export function seeProcess(pid: number): SeenProcess | undefined {
  return seeThreads(pid)[0];
}

/**
 * Looks at one process, which is in one namespace. When its first thread has ended and others have not,
 * it looks dead, and only these tell where it is: one result for each namespace.
 */
function seeThreads(pid: number): SeenProcess[] {
  return whileThere(() => {
    const place = placeOf(pid);
    // Nobody asks when a process began that is no pod's.
    const start = place.kind === "none" ? "" : startOf(pid);
    const namespaces = namespacesOf(pid);
    return namespaces.map((namespace) => ({
      pid,
      start,
      place,
      ...(namespace === undefined ? {} : { namespace }),
    }));
  }) ?? [];
}

function placeOf(pid: number): CgroupPlace {
  const text = readKernelFile(`/proc/${pid}/cgroup`);
  return text.includes("pod") ? placeInCgroups(text) : { kind: "none" };
}

/** Behind the name, which stands in brackets and can hold anything: state, then the 20th field. */
function startOf(pid: number): string {
  const stat = readKernelFile(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

/** The process's namespace, `undefined` for one that is not shown; none of a process that has ended. */
function namespacesOf(pid: number): (string | undefined)[] {
  const first = namespaceAt(`/proc/${pid}/ns/net`);
  if (first !== "ended") return [first];
  const threads = Array.from(Deno.readDirSync(`/proc/${pid}/task`), ({ name }) => name);
  const others = threads.map((thread) => namespaceAt(`/proc/${pid}/task/${thread}/ns/net`));
  return [...new Set(others.filter((one) => one !== "ended"))];
}

function namespaceAt(path: string): string | undefined | "ended" {
  try {
    const { dev, ino } = Deno.statSync(path);
    return `${dev}:${ino}`;
  } catch (error) {
    // A thread that has ended has none, and of others' processes it takes CAP_SYS_PTRACE.
    return error instanceof Deno.errors.NotFound ? "ended" : undefined;
  }
}

/** Processes end while they are looked at. */
function whileThere<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof LinuxError && ["ENOENT", "ESRCH"].includes(error.code)) return undefined;
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
