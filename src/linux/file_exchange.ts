/**
 * What the kernel can do with two names in one file system that Deno has no call for: exchange them,
 * and take a name only when it is free. Facts: rename(2), flock(2), `linux/fs.h`.
 *
 * Needs `--allow-ffi`. Used by the installer only.
 */
import { call, fileCalls as libc } from "./file_calls.ts";
import { LinuxError } from "./errno.ts";
import { cString } from "./libc.ts";

const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const EWOULDBLOCK = 11;
const O_CREAT = 0o100;
const O_NOFOLLOW = 0o400000;
const O_CLOEXEC = 0o2000000;
const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Exchanges two existing files in one atomic step: nobody sees either name missing, and what stood
 * under a name the moment before is kept under the other one.
 *
 * @throws {LinuxError} `ENOENT` when one of them is missing, `EINVAL` when the file system cannot.
 */
export function exchangeFiles(one: string, other: string): void {
  const [a, b] = [cString(one), cString(other)];
  call(
    `Cannot exchange ${JSON.stringify(one)} and ${JSON.stringify(other)}`,
    () => libc().renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE),
  );
}

/**
 * Renames a file to a name that must be free.
 *
 * @throws {LinuxError} `EEXIST` when the name is taken, `EINVAL` when the file system cannot tell.
 */
export function renameToFreeName(from: string, to: string): void {
  const [a, b] = [cString(from), cString(to)];
  call(
    `Cannot rename ${JSON.stringify(from)} to ${JSON.stringify(to)}`,
    () => libc().renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_NOREPLACE),
  );
}

/**
 * Takes an exclusive lock that ends with the process, however it ends.
 *
 * @param path Lock file, created with mode 0600 when missing; never a symbolic link.
 * @returns The lock, or `undefined` while another process has it, or has just removed the file.
 * @throws {LinuxError} when the file cannot be opened.
 */
export function tryLock(path: string): Disposable | undefined {
  // Open for reading only: a lock must not keep a file system from being made read-only.
  const name = cString(path);
  const attempt = `Cannot lock ${JSON.stringify(path)}`;
  const fd = call(
    attempt,
    () => libc().open(name, O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600),
  );
  try {
    call(attempt, () => libc().flock(fd, LOCK_EX | LOCK_NB));
  } catch (error) {
    libc().close(fd);
    if (error instanceof LinuxError && error.errno === EWOULDBLOCK) return undefined;
    throw error;
  }
  // The holder before us may have removed the file; a lock on a nameless file keeps nobody out.
  if (Deno.readLinkSync(`/proc/self/fd/${fd}`).endsWith(" (deleted)")) {
    libc().close(fd);
    return undefined;
  }
  return { [Symbol.dispose]: () => void libc().close(fd) };
}
