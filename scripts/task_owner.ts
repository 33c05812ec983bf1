/** Tells whether the process that made something still lives, for names of files. */

/**
 * Returns what only this one process ever is: its process namespace, its number and when it started,
 * each as a number of base 36, for example `1ulx3kc.9ix.2k3jf`. Numbers of processes are used again;
 * together with the start they are not.
 *
 * @param pid Number of a process that runs.
 */
export function identityOf(pid: number): string {
  const started = startOf(pid);
  if (started === undefined) throw new Error(`Cannot identify process ${pid}: it does not run`);
  return [namespaceNumber(), pid, started].map((number) => number.toString(36)).join(".");
}

/**
 * Tells whether a process has surely ended.
 *
 * @param identity Made by {@linkcode identityOf}.
 * @returns `false` also for what is not an identity or of another process namespace, whose processes
 * are not seen from here.
 */
export function isGone(identity: string): boolean {
  const [namespace, pid, started, ...more] = identity.split(".")
    .map((text) => /^[0-9a-z]{1,10}$/.test(text) ? parseInt(text, 36) : NaN);
  if (pid === undefined || started === undefined || more.length > 0) return false;
  if (namespace !== namespaceNumber() || Number.isNaN(pid) || Number.isNaN(started)) return false;
  return startOf(pid) !== started;
}

/** When a process started, in clock ticks since boot (proc(5), `stat`); `undefined` without it. */
function startOf(pid: number): number | undefined {
  try {
    const text = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // The name in parentheses may hold anything; the start is the 20th field behind it.
    return Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[19]);
  } catch (error) {
    // A process that ends meanwhile: reading gives ESRCH.
    if (error instanceof Deno.errors.NotFound || String(error).includes("os error 3")) {
      return undefined;
    }
    throw error;
  }
}

function namespaceNumber(): number {
  const [, number] = /\[(\d+)\]/.exec(Deno.readLinkSync("/proc/self/ns/pid")) ?? [];
  return Number(number);
}
