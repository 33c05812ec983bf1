/**
 * The C library's calls about files that Deno has none for. Used by the installer only.
 *
 * Needs `--allow-ffi`.
 */
import { EINTR, LinuxError } from "./errno.ts";

const interfaceOfLibc = {
  __errno_location: { parameters: [], result: "pointer" },
  renameat2: { parameters: ["i32", "buffer", "i32", "buffer", "u32"], result: "i32" },
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  listxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  getxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
  setxattr: { parameters: ["buffer", "buffer", "buffer", "usize", "i32"], result: "i32" },
  removexattr: { parameters: ["buffer", "buffer"], result: "i32" },
} as const;

type Symbols = Deno.DynamicLibrary<typeof interfaceOfLibc>["symbols"];
let loaded: Symbols | undefined;

/**
 * Returns the calls, loading the library at the first time.
 *
 * @throws {Error} when `libc.so.6` cannot be loaded.
 */
export function fileCalls(): Symbols {
  return loaded ??= Deno.dlopen("libc.so.6", interfaceOfLibc).symbols;
}

/**
 * Makes a call that returns -1 on failure, again while a signal interrupts it.
 *
 * @param attempt What the call is for, on which object; begins an error's message.
 * @throws {LinuxError} when it fails.
 */
export function call(attempt: string, work: () => number | bigint): number {
  for (;;) {
    const result = Number(work());
    if (result !== -1) return result;
    const pointer = fileCalls().__errno_location();
    const errno = pointer === null ? 0 : new Deno.UnsafePointerView(pointer).getInt32();
    if (errno !== EINTR) throw new LinuxError(attempt, errno);
  }
}
