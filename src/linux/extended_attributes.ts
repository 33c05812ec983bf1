/**
 * Extended attributes of files: SELinux labels, access control lists, what others have noted. Facts:
 * xattr(7), listxattr(2), getxattr(2). Used by the installer only.
 *
 * Needs `--allow-ffi`.
 */
import { LinuxError } from "./errno.ts";
import { call, fileCalls } from "./file_calls.ts";
import { cString } from "./libc.ts";

const ERANGE = 34;
const ENODATA = 61;

/**
 * Returns a file's extended attributes by name; links are followed.
 *
 * @returns None where the file system knows none.
 * @throws {LinuxError} when they cannot be read.
 */
export function extendedAttributes(path: string): Map<string, Uint8Array<ArrayBuffer>> {
  const file = cString(path);
  const attempt = `Cannot read the extended attributes of ${JSON.stringify(path)}`;
  const result = new Map<string, Uint8Array<ArrayBuffer>>();
  let names: Uint8Array;
  try {
    names = grown(attempt, (buffer) => fileCalls().listxattr(file, buffer, bigSize(buffer)));
  } catch (error) {
    if (error instanceof LinuxError && error.code === "EOPNOTSUPP") return result;
    throw error;
  }
  for (const name of new TextDecoder().decode(names).split("\0").filter((name) => name !== "")) {
    const key = cString(name);
    try {
      const value = grown(
        attempt,
        (buffer) => fileCalls().getxattr(file, key, buffer, bigSize(buffer)),
      );
      result.set(name, value);
    } catch (error) {
      // Gone meanwhile, or listed although nobody may read it.
      if (error instanceof LinuxError && (error.errno === ENODATA || isRefusal(error))) continue;
      throw error;
    }
  }
  return result;
}

/**
 * Sets an extended attribute.
 *
 * @throws {LinuxError} when the kernel, the file system or a security policy refuses.
 */
export function setExtendedAttribute(path: string, name: string, value: Uint8Array): void {
  const [file, key] = [cString(path), cString(name)];
  call(
    `Cannot set the extended attribute "${name}" of ${JSON.stringify(path)}`,
    () => fileCalls().setxattr(file, key, value as BufferSource, BigInt(value.length), 0),
  );
}

/**
 * Removes an extended attribute.
 *
 * @throws {LinuxError} when it is not there, or must not go.
 */
export function removeExtendedAttribute(path: string, name: string): void {
  const [file, key] = [cString(path), cString(name)];
  call(
    `Cannot remove the extended attribute "${name}" of ${JSON.stringify(path)}`,
    () => fileCalls().removexattr(file, key),
  );
}

/** Whether an error is a refusal by rights, by a security policy or by the file system. */
export function isRefusal(error: LinuxError): boolean {
  return ["EPERM", "EACCES", "EOPNOTSUPP", "EINVAL"].includes(error.code);
}

/** Calls with larger and larger buffers until what is there fits. */
function grown(
  attempt: string,
  read: (buffer: Uint8Array<ArrayBuffer>) => number | bigint,
): Uint8Array<ArrayBuffer> {
  // The kernel's bound is 64 KiB for a value and for all names together.
  for (let size = 256;; size *= 4) {
    const buffer = new Uint8Array(size);
    try {
      return buffer.slice(0, call(attempt, () => read(buffer)));
    } catch (error) {
      const isTooSmall = error instanceof LinuxError && error.errno === ERANGE;
      if (!isTooSmall || size > 1 << 16) throw error;
    }
  }
}

function bigSize(buffer: Uint8Array): bigint {
  return BigInt(buffer.length);
}
