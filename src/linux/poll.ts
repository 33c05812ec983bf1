/** Waiting for a file descriptor. Facts: poll(2), `asm-generic/poll.h`. */
import { checked, libc } from "./libc.ts";

const POLLIN = 1;
const POLLOUT = 4;

/**
 * Waits until a file can be read without blocking, which is also so at its end and when it is broken.
 * Needs `--allow-ffi`.
 *
 * @param descriptor Number of an open file.
 * @param milliseconds Longest wait.
 * @returns Whether it can be read.
 * @throws {LinuxError} when the kernel refuses.
 */
export function waitUntilReadable(descriptor: number, milliseconds: number): boolean {
  return waitFor("input", descriptor, POLLIN, milliseconds);
}

/** Waits until a file can be written without blocking; else as {@linkcode waitUntilReadable}. */
export function waitUntilWritable(descriptor: number, milliseconds: number): boolean {
  return waitFor("room for output", descriptor, POLLOUT, milliseconds);
}

function waitFor(what: string, descriptor: number, event: number, milliseconds: number): boolean {
  const end = performance.now() + milliseconds;
  // struct pollfd: descriptor, then wanted and actual events of 16 bits each.
  const wanted = new Uint8Array(Int32Array.of(descriptor, event).buffer);
  return checked(`Cannot wait for ${what}`, () => {
    const left = Math.max(0, Math.ceil(end - performance.now()));
    return libc().poll(wanted, 1n, left);
  }) > 0;
}

/** Lets the calling thread sleep, for work that must not await. Needs `--allow-ffi`. */
export function pauseThread(milliseconds: number): void {
  libc().poll(new Uint8Array(8), 0n, milliseconds);
}
