/**
 * Reads files that others can put in place, such as kubeconfigs, tokens and network configurations.
 * Plain reading would wait for ever at a FIFO, deaf to signals, and never come to the end of a link to
 * `/dev/zero`.
 */
import { EMFILE, ENFILE, ENOMEM, LinuxError } from "./errno.ts";
import { checked, libc, openForReading } from "./libc.ts";

/** Most bytes of a file unless told: etcd stores no object, and kubelet mounts no file, that is larger. */
const defaultMaximum = 4 * 1024 * 1024;

const pieceSize = 64 * 1024;

// Facts: statx(2), `linux/stat.h`.
const AT_EMPTY_PATH = 0x1000;
const STATX_TYPE = 1;
const modeOffset = 28;
const S_IFMT = 0o170000;

const kinds: Readonly<Record<number, string>> = {
  0o010000: "a FIFO",
  0o020000: "a character device",
  0o040000: "a directory",
  0o060000: "a block device",
  0o140000: "a socket",
};

/** What stands at a path is not a file that is read, or is larger than a file of its kind. */
export class UnusableFileError extends Error {
  override readonly name = "UnusableFileError";
}

/**
 * Reads a whole regular file; links are followed. Never waits for another program, and never takes
 * more memory than twice the bound.
 *
 * @param maximumBytes Largest size that is read; 4 MiB.
 * @returns The bytes.
 * @throws {UnusableFileError} when it is a FIFO, a device, a directory or a socket, or too large.
 * @throws {LinuxError} when it cannot be opened or read; `code` is `ENOENT` when it does not exist.
 * Needs `--allow-ffi`.
 */
export function readRegularFile(
  path: string,
  maximumBytes = defaultMaximum,
): Uint8Array<ArrayBuffer> {
  const name = JSON.stringify(path);
  using file = open(path, name);
  const kind = kindOf(file.number, name);
  if (kind !== undefined) {
    throw new UnusableFileError(`Cannot read ${name}: it is ${kind}, expected a regular file`);
  }
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  for (;;) {
    const piece = new Uint8Array(pieceSize);
    const length = checked(
      `Cannot read ${name}`,
      () => Number(libc().read(file.number, piece, BigInt(pieceSize))),
    );
    if (length === 0) break;
    total += length;
    if (total > maximumBytes) {
      throw new UnusableFileError(
        `Cannot read ${name}: it is larger than ${maximumBytes} bytes, the most for such a file`,
      );
    }
    pieces.push(piece.subarray(0, length));
  }
  const [first] = pieces;
  if (pieces.length === 1 && first !== undefined) return first;
  const bytes = new Uint8Array(total);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** Tells whether an error says that the machine has run out of something that it gets back. */
export function isOutOfResources(error: unknown): boolean {
  return error instanceof LinuxError && [EMFILE, ENFILE, ENOMEM].includes(error.errno);
}

/** A socket or a device without a driver fails here already. */
function open(path: string, name: string): ReturnType<typeof openForReading> {
  try {
    return openForReading(path);
  } catch (error) {
    if (!(error instanceof LinuxError) || error.code !== "ENXIO") throw error;
    throw new UnusableFileError(
      `Cannot read ${name}: it is a socket or a device, expected a regular file`,
      { cause: error },
    );
  }
}

/** What an open file is, `undefined` for a regular one. */
function kindOf(descriptor: number, name: string): string | undefined {
  const status = new Uint8Array(256);
  checked(
    `Cannot look at ${name}`,
    () => libc().statx(descriptor, Uint8Array.of(0), AT_EMPTY_PATH, STATX_TYPE, status),
  );
  const mode = new DataView(status.buffer).getUint16(modeOffset, true) & S_IFMT;
  return mode === 0o100000 ? undefined : kinds[mode] ?? "of an unknown kind";
}
