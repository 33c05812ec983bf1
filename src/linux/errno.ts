/** Errors of the Linux kernel as JavaScript errors. Facts: `asm-generic/errno.h`. */

/**
 * A system call or a netlink request failed. `code` is the kernel's symbolic name, for example
 * `"ENOENT"`, or `"E123"` for one that this program has no name for.
 */
export class LinuxError extends Error {
  override readonly name: string = "LinuxError";
  /** Symbolic name of `errno`. */
  readonly code: string;

  /**
   * @param attempt What was attempted on which object, without final period.
   * @param errno Positive error number.
   * @param detail More words of the kernel (for example its extended acknowledgement).
   */
  constructor(attempt: string, readonly errno: number, readonly detail?: string) {
    const [code, text] = errnoName(errno);
    super(`${attempt}: ${code} (${text})${detail ? `: ${detail}` : ""}`);
    this.code = code;
  }
}

/**
 * Does the work, of which one error is an answer, for example that there is no such thing.
 *
 * @param code Symbolic name of that error.
 * @returns `undefined` when the work fails with it.
 * @throws when it fails otherwise.
 */
export function unlessError<T>(code: string, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof LinuxError && error.code === code) return undefined;
    throw error;
  }
}

export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EBUSY = 16;
export const EEXIST = 17;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ERESTART = 85;
export const EMSGSIZE = 90;
export const ENOPROTOOPT = 92;
export const EPROTONOSUPPORT = 93;
export const EOPNOTSUPP = 95;
export const EAFNOSUPPORT = 97;
export const EADDRINUSE = 98;
export const ENOBUFS = 105;

/** Returns symbolic name and meaning of a positive error number. */
export function errnoName(errno: number): readonly [code: string, text: string] {
  const known: Record<number, readonly [string, string]> = {
    1: ["EPERM", "Operation not permitted"],
    2: ["ENOENT", "No such file or object"],
    3: ["ESRCH", "No such process"],
    4: ["EINTR", "Interrupted"],
    5: ["EIO", "Input/output error"],
    6: ["ENXIO", "No such device or address"],
    7: ["E2BIG", "Too long"],
    9: ["EBADF", "Bad file descriptor"],
    10: ["ECHILD", "No such child process"],
    11: ["EAGAIN", "Try again, or timed out"],
    12: ["ENOMEM", "Out of memory"],
    13: ["EACCES", "Permission denied"],
    16: ["EBUSY", "In use"],
    17: ["EEXIST", "Exists already"],
    19: ["ENODEV", "No such device"],
    20: ["ENOTDIR", "Not a directory"],
    21: ["EISDIR", "Is a directory"],
    22: ["EINVAL", "Invalid argument"],
    23: ["ENFILE", "Too many open files in the system"],
    24: ["EMFILE", "Too many open files"],
    26: ["ETXTBSY", "Text file busy"],
    25: ["ENOTTY", "Not such a file"],
    28: ["ENOSPC", "No space left"],
    30: ["EROFS", "Read-only file system"],
    31: ["EMLINK", "Too many links, or chains nested too deep"],
    34: ["ERANGE", "Out of range"],
    36: ["ENAMETOOLONG", "Name too long"],
    38: ["ENOSYS", "Not in this kernel"],
    40: ["ELOOP", "Too many symbolic links, or a loop"],
    75: ["EOVERFLOW", "Value too large"],
    85: ["ERESTART", "The ruleset changed meanwhile"],
    90: ["EMSGSIZE", "Message too long"],
    92: ["ENOPROTOOPT", "Protocol not available"],
    93: ["EPROTONOSUPPORT", "Protocol not supported"],
    95: ["EOPNOTSUPP", "Operation not supported"],
    97: ["EAFNOSUPPORT", "Address family not supported"],
    98: ["EADDRINUSE", "Address in use"],
    99: ["EADDRNOTAVAIL", "Address not available"],
    100: ["ENETDOWN", "Network is down"],
    101: ["ENETUNREACH", "Network is unreachable"],
    104: ["ECONNRESET", "Connection reset"],
    105: ["ENOBUFS", "No buffer space"],
    110: ["ETIMEDOUT", "Timed out"],
    111: ["ECONNREFUSED", "Connection refused"],
    113: ["EHOSTUNREACH", "No route to host"],
    115: ["EINPROGRESS", "In progress"],
  };
  return known[errno] ?? [`E${errno}`, `error number ${errno}`];
}
