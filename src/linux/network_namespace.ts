/**
 * Work inside another network namespace, synchronously: setns(2) moves only the calling thread, and
 * asynchronous I/O would run on threads that stayed behind. Facts: setns(2), namespaces(7).
 */
import { EINVAL, LinuxError } from "./errno.ts";
import { checked, FileDescriptor, lastErrno, libc, openForReading } from "./libc.ts";

const CLONE_NEWNET = 0x40000000;
/** The file of the namespace that the calling thread is in. */
export const ownNamespace = "/proc/thread-self/ns/net";

/**
 * The thread could not return to its own network namespace: whatever it does next would happen in
 * the wrong one, so the process must end.
 */
export class LostNamespaceError extends LinuxError {
  override readonly name = "LostNamespaceError";
}

let lost = false;

/**
 * Does `work` inside another network namespace and returns home, also when it throws.
 *
 * Only synchronous work is possible; children that `work` starts with a synchronous
 * `Deno.Command` are inside, too. Needs `CAP_SYS_ADMIN` over the namespace and `--allow-ffi`,
 * `--allow-read`.
 *
 * @param namespace Its file, for example `/run/netns/x` or `/proc/1/ns/net`, or that file opened.
 * @returns What `work` returned.
 * @throws {LinuxError} when the namespace cannot be entered: missing, no permission, or not a network
 * namespace.
 * @throws {TypeError} when `work` returns a promise.
 * @throws {LostNamespaceError} when the thread cannot return; end the process then.
 */
export function withNetworkNamespace<T>(namespace: string | FileDescriptor, work: () => T): T {
  const path = pathOf(namespace);
  if (lost) {
    throw new LostNamespaceError(
      `Cannot enter network namespace ${JSON.stringify(path)} from a thread that is in a wrong one`,
      EINVAL,
    );
  }
  using home = openForReading(ownNamespace);
  if (namespace instanceof FileDescriptor) enter(namespace, path);
  else enterByPath(path);
  let result: T;
  try {
    result = work();
  } finally {
    goHome(home.number, path);
  }
  if (typeof (result as { then?: unknown } | null | undefined)?.then === "function") {
    throw new TypeError(
      `Cannot work in network namespace ${
        JSON.stringify(path)
      } asynchronously: Return a plain value, not a promise`,
    );
  }
  return result;
}

/** What stands for an open file wherever a path is taken; here it leads to the same namespace. */
function pathOf(namespace: string | FileDescriptor): string {
  return typeof namespace === "string" ? namespace : `/proc/self/fd/${namespace.number}`;
}

function enterByPath(path: string): void {
  using target = openNamespace(path);
  enter(target, path);
}

function enter(target: FileDescriptor, path: string): void {
  if (libc().setns(target.number, CLONE_NEWNET) !== -1) return;
  const errno = lastErrno();
  const attempt = `Cannot enter network namespace ${JSON.stringify(path)}`;
  if (errno === EINVAL) throw new LinuxError(attempt, errno, whatItIs(path));
  throw new LinuxError(attempt, errno);
}

function openNamespace(path: string): ReturnType<typeof openForReading> {
  try {
    return openForReading(path);
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    throw new LinuxError(
      `Cannot open network namespace ${JSON.stringify(path)}`,
      error.errno,
    );
  }
}

function goHome(home: number, from: string): void {
  try {
    checked(
      `Cannot return from network namespace ${JSON.stringify(from)}`,
      () => libc().setns(home, CLONE_NEWNET),
    );
  } catch (error) {
    lost = true;
    if (!(error instanceof LinuxError)) throw error;
    throw new LostNamespaceError(
      `Cannot return from network namespace ${JSON.stringify(from)}`,
      error.errno,
      "The process must end now",
    );
  }
}

/** Says what stands at a path that setns(2) did not take. */
function whatItIs(path: string): string {
  try {
    const link = Deno.readLinkSync(path);
    if (/^[a-z_]+:\[\d+\]$/.test(link)) return `It is the namespace "${link}"`;
  } catch { /* Not a symbolic link: look at the file itself. */ }
  try {
    const info = Deno.statSync(path);
    if (info.isDirectory) return "It is a directory, not a namespace file";
    const nsfs = Deno.statSync(ownNamespace).dev;
    if (info.dev === nsfs) return "It is a namespace of another kind";
    return `It is ${info.isFile ? "a plain file" : "a special file"}, not a namespace file; ` +
      "the bind mount of the namespace is gone or was never made";
  } catch {
    return "It cannot be examined";
  }
}

/**
 * Tells whether the calling thread is in a network namespace, given as for
 * {@linkcode withNetworkNamespace}.
 *
 * @throws {Deno.errors.NotFound} and other file errors when its file cannot be examined.
 */
export function isCurrentNetworkNamespace(namespace: string | FileDescriptor): boolean {
  return isOneOfNamespaces(namespace, [ownNamespace]);
}

/**
 * Tells whether a file is that of one of several namespaces; throws as
 * {@linkcode isCurrentNetworkNamespace}.
 */
export function isOneOfNamespaces(
  namespace: string | FileDescriptor,
  others: readonly (string | FileDescriptor)[],
): boolean {
  const { dev, ino } = Deno.statSync(pathOf(namespace));
  return others.some((other) => {
    const info = Deno.statSync(pathOf(other));
    return info.dev === dev && info.ino === ino;
  });
}
