/** Standard input of the plugin, read within bounds. */
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

/** What a person can do about a configuration that is too large. */
export const TOO_MUCH_HINT =
  "No network needs that much: look for what has filled the configuration file or prevResult";

/** A stream that is read synchronously. */
export interface Input {
  /** Waits until a read does not block; `false` when that did not happen in time. */
  wait(milliseconds: number): boolean;
  /** Reads what is there, `null` at the end. */
  read(buffer: Uint8Array): number | null;
}

/**
 * Reads a stream to its end. Synchronously: asynchronous reads bring a thread and the event loop into
 * play, which takes a millisecond more.
 *
 * @throws {CniError} code 5 when reading fails or does not end in time, code 6 when there is more
 * than allowed.
 */
export function readInput(source: Input, bounds: InputBounds = INPUT_BOUNDS): Uint8Array {
  const end = performance.now() + bounds.milliseconds;
  let buffer = new Uint8Array(16 * 1024);
  let length = 0;
  while (true) {
    const count = readSome(source, buffer.subarray(length), end, bounds);
    if (count === null) return buffer.subarray(0, length);
    length += count;
    if (length > bounds.bytes) {
      throw new CniError(
        CniErrorCode.Decoding,
        `Network configuration on stdin is longer than ${bounds.bytes} bytes`,
        TOO_MUCH_HINT,
      );
    }
    if (length === buffer.length) {
      const grown = new Uint8Array(buffer.length * 4);
      grown.set(buffer);
      buffer = grown;
    }
  }
}

function readSome(
  source: Input,
  buffer: Uint8Array,
  end: number,
  bounds: InputBounds,
): number | null {
  let ready: boolean;
  try {
    ready = source.wait(Math.max(0, end - performance.now()));
    if (ready) return source.read(buffer);
  } catch (error) {
    throw new CniError(
      CniErrorCode.InputOutput,
      "Could not read the network configuration from stdin",
      "",
      { cause: error },
    );
  }
  throw new CniError(
    CniErrorCode.InputOutput,
    `Network configuration on stdin did not end within ${bounds.milliseconds / 1000} s`,
    "The caller must close the plugin's stdin after the configuration",
  );
}
