/**
 * The few functions of the C library that the plugin calls. The library is loaded at the first use,
 * since that costs a millisecond that a pod outside the mesh need not pay.
 *
 * Every function here needs `--allow-ffi` and runs on the calling thread.
 */
import { EINTR, LinuxError } from "./errno.ts";

const interfaceOfLibc = {
  __errno_location: { parameters: [], result: "pointer" },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  // With the commands in use it has no third argument.
  fcntl: { parameters: ["i32", "i32"], result: "i32" },
  // Takes and returns addresses of functions, of which only SIG_IGN is used.
  signal: { parameters: ["i32", "usize"], result: "usize" },
  ioctl: { parameters: ["i32", "u64"], result: "i32" },
  setns: { parameters: ["i32", "i32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
} as const;

/** The loaded functions. */
export type Libc = Deno.DynamicLibrary<typeof interfaceOfLibc>["symbols"];

let loaded: Libc | undefined;

/**
 * Returns the C library's functions, loading it at the first call (about 0.2 ms).
 *
 * @throws {Error} when `libc.so.6` cannot be loaded.
 */
export function libc(): Libc {
  return loaded ??= loadFunctions(interfaceOfLibc);
}

/**
 * Loads functions of the C library.
 *
 * `Deno.dlopen` would compile machine code for each function, which takes 0.12 ms each and executable
 * memory that hardened hosts refuse, to make calls faster by less than a microsecond: only addresses
 * are asked of it.
 *
 * @throws {Error} when `libc.so.6` cannot be loaded or has no such function.
 */
export function loadFunctions<T extends Record<string, Deno.ForeignFunction>>(
  definitions: T,
): Deno.DynamicLibrary<T>["symbols"] {
  const addresses: Record<string, { readonly type: "pointer" }> = {};
  for (const name in definitions) addresses[name] = { type: "pointer" };
  const { symbols } = Deno.dlopen("libc.so.6", addresses);
  const functions: Record<string, unknown> = {};
  for (const name in definitions) {
    const definition: Deno.ForeignFunction = definitions[name]!;
    const address = symbols[name] as Deno.PointerObject<Deno.ForeignFunction>;
    const pointer = new Deno.UnsafeFnPointer<Deno.ForeignFunction>(address, definition);
    functions[name] = pointer.call.bind(pointer);
  }
  return functions as Deno.DynamicLibrary<T>["symbols"];
}

/**
 * Returns `errno` of the calling thread; ask right after the failed call. A runtime that waits for its
 * own threads in between can write another number over it, which was seen once in some 100,000 calls
 * of 16 threads: nothing may become unsafe by a wrong number, only fail or be tried again.
 */
export function lastErrno(): number {
  const pointer = libc().__errno_location();
  return pointer === null ? 0 : new Deno.UnsafePointerView(pointer).getInt32();
}

/**
 * Calls a function that returns -1 on failure, again while a signal interrupts it.
 *
 * @param attempt What the call is for, on which object; begins an error's message.
 * @throws {LinuxError} when it fails.
 */
export function checked(attempt: string, call: () => number): number {
  for (;;) {
    const result = call();
    if (result !== -1) return result;
    const errno = lastErrno();
    if (errno !== EINTR) throw new LinuxError(attempt, errno);
  }
}

/**
 * Returns text as a NUL-terminated byte string.
 *
 * @throws {TypeError} when the text has a NUL character, which would cut it short.
 */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) {
    throw new TypeError(
      `Cannot pass ${JSON.stringify(text)} to the kernel: It has a NUL character`,
    );
  }
  return new TextEncoder().encode(text + "\0");
}

/** Returns where a buffer lies in memory; keep the buffer referenced while the kernel uses it. */
export function addressOf(buffer: Uint8Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
}

const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;
const O_NOCTTY = 0o400;

/** An open file of the kernel that closes at the end of a `using` block. */
export class FileDescriptor implements Disposable {
  constructor(readonly number: number) {}

  [Symbol.dispose](): void {
    libc().close(this.number);
  }
}

/**
 * Opens a file for reading. Never blocks on a FIFO and never takes a terminal; not inherited by
 * child processes.
 *
 * @throws {LinuxError} when it cannot be opened.
 */
export function openForReading(path: string): FileDescriptor {
  const name = cString(path);
  const flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  return new FileDescriptor(
    checked(`Cannot open ${JSON.stringify(path)}`, () => libc().open(name, flags)),
  );
}
