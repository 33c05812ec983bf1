/** Standard input and output of the plugin: bounded reading, complete writing. */
import { CniError, CniErrorCode } from "./errors.ts";

/** Bounds of a read of standard input. */
export interface InputBounds {
  /** Most bytes that are taken. */
  readonly bytes: number;
  /** Longest wait for the end of the input, in milliseconds. */
  readonly milliseconds: number;
}

/**
 * The bounds in use: 8 MiB, since a pod's result with every annotation in `runtimeConfig` stays far
 * below it, and 10 s, since a runtime writes at once but a starting node can be slow.
 */
export const INPUT_BOUNDS: InputBounds = { bytes: 8 * 1024 * 1024, milliseconds: 10_000 };

/**
 * Reads a stream to its end.
 *
 * @param source For example `Deno.stdin`. After a time-out its last read is still pending: the
 * process must be ended by `Deno.exit`.
 * @throws {CniError} code 5 when reading fails or does not end in time, code 6 when there is more
 * than allowed.
 */
export async function readInput(
  source: { read(buffer: Uint8Array): Promise<number | null> },
  bounds: InputBounds = INPUT_BOUNDS,
): Promise<Uint8Array> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() =>
      reject(
        new CniError(
          CniErrorCode.InputOutput,
          `Network configuration on stdin did not end within ${bounds.milliseconds / 1000} s`,
          "The caller must close the plugin's stdin after the configuration",
        ),
      ), bounds.milliseconds);
  });
  try {
    return await Promise.race([readAll(source, bounds.bytes), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function readAll(
  source: { read(buffer: Uint8Array): Promise<number | null> },
  limit: number,
): Promise<Uint8Array> {
  let buffer = new Uint8Array(16 * 1024);
  let length = 0;
  while (true) {
    let count: number | null;
    try {
      count = await source.read(buffer.subarray(length));
    } catch (error) {
      throw new CniError(
        CniErrorCode.InputOutput,
        "Could not read the network configuration from stdin",
        "",
        { cause: error },
      );
    }
    if (count === null) return buffer.subarray(0, length);
    length += count;
    if (length > limit) {
      throw new CniError(
        CniErrorCode.Decoding,
        `Network configuration on stdin is longer than ${limit} bytes`,
        "No network needs that much: look for what has filled the configuration file or prevResult",
      );
    }
    if (length === buffer.length) {
      const grown = new Uint8Array(buffer.length * 4);
      grown.set(buffer);
      buffer = grown;
    }
  }
}

/**
 * Writes all bytes, however the pipe splits them.
 *
 * @param target For example `Deno.stdout`.
 * @throws {Error} what the write throws, for example `Deno.errors.BrokenPipe`.
 */
export function writeAll(target: { writeSync(data: Uint8Array): number }, bytes: Uint8Array): void {
  let rest = bytes;
  while (rest.length > 0) rest = rest.subarray(target.writeSync(rest));
}
