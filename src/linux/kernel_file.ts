/**
 * Reads files of `/proc` and `/sys`. `Deno.readTextFile` refuses these unless the program may do
 * everything (`--allow-all`), which the compiled plugin may not; the C library has no such rule.
 */
import { checked, cString, libc, openForReading } from "./libc.ts";

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const STATX_BYTES = 256;

/** Tells whether there is a file of this name that can be looked at; needs `--allow-ffi`. */
export function hasFile(path: string): boolean {
  const status = new Uint8Array(STATX_BYTES);
  return libc().statx(AT_FDCWD, cString(path), AT_SYMLINK_NOFOLLOW, 0, status) === 0;
}

/** The kernel gives no more than a page of most such files at once. */
const pieceSize = 4096;

/**
 * Reads a whole file that the kernel makes up while it is read. Synchronous, on the calling thread,
 * so that `/proc/thread-self` is right inside an entered namespace.
 *
 * @param path For example `/proc/thread-self/net/ip_tables_names`. Needs `--allow-ffi`.
 * @returns The text.
 * @throws {LinuxError} when it cannot be opened or read; `code` is `ENOENT` when it does not exist.
 */
export function readKernelFile(path: string): string {
  using file = openForReading(path);
  const decoder = new TextDecoder();
  const piece = new Uint8Array(pieceSize);
  let text = "";
  for (;;) {
    const length = checked(
      `Cannot read ${JSON.stringify(path)}`,
      () => Number(libc().read(file.number, piece, BigInt(pieceSize))),
    );
    if (length === 0) return text + decoder.decode();
    text += decoder.decode(piece.subarray(0, length), { stream: true });
  }
}
