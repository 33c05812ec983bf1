/**
 * Writing a program's answer so that success means that it was written. `Deno.stdout` takes a stdout
 * that cannot be written to (EBADF) for one that has been, and gives up in the middle on a pipe that
 * does not block. Facts: write(2), signal(7); Rust's runtime opens `/dev/null` in the place of a
 * standard descriptor that is closed at the start.
 */
import { EAGAIN, EINTR, LinuxError } from "./errno.ts";
import { lastErrno, libc } from "./libc.ts";
import { waitUntilWritable } from "./poll.ts";

const F_GETFL = 3;
const O_ACCMODE = 3;
const O_RDWR = 2;
const SIGXFSZ = 25;
const SIG_IGN = 1n;

/** `rdev` of `/dev/null`: character device 1:3. */
const DEV_NULL = 0x103;

/**
 * Writes all bytes to an open file, waiting where it does not block. Needs `--allow-ffi`.
 *
 * @param descriptor Number of the file.
 * @param milliseconds Longest wait for room, each time.
 * @throws {LinuxError} when the kernel refuses.
 * @throws {Error} when nobody makes room in time.
 */
export function writeFully(
  descriptor: number,
  bytes: Uint8Array,
  milliseconds = 10_000,
): void {
  // None of this program's memory is shared between threads.
  let rest = bytes as Uint8Array<ArrayBuffer>;
  while (rest.length > 0) {
    const count = Number(libc().write(descriptor, rest, BigInt(rest.length)));
    if (count >= 0) {
      rest = rest.subarray(count);
      continue;
    }
    const errno = lastErrno();
    if (errno === EINTR) continue;
    if (errno !== EAGAIN) throw new LinuxError("Cannot write the answer", errno);
    if (!waitUntilWritable(descriptor, milliseconds)) {
      throw new Error(`Nobody has read the answer for ${milliseconds} ms`);
    }
  }
}

/**
 * Tells whether a standard descriptor was closed when the program started: then what is written to it
 * gets lost. A caller who wants that opens `/dev/null` for writing only, which is not the same.
 */
export function wasClosed(descriptor: number): boolean {
  if ((libc().fcntl(descriptor, F_GETFL) & O_ACCMODE) !== O_RDWR) return false;
  try {
    return Deno.statSync(`/proc/self/fd/${descriptor}`).rdev === DEV_NULL;
  } catch {
    return false;
  }
}

/**
 * Makes a file that would grow beyond the limit of file sizes an error (EFBIG) instead of the end of
 * the process: a log line must not kill a call that has given its answer.
 */
export function ignoreFileSizeSignal(): void {
  libc().signal(SIGXFSZ, SIG_IGN);
}
