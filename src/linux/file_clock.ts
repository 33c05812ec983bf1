/**
 * The clock that the kernel stamps files with. It stands still between two of its ticks, 10 ms on
 * some machines, 4 ms or less on others, so two changes of a file can have the same time.
 *
 * Needs `--allow-ffi`. Facts: clock_gettime(2) (`CLOCK_REALTIME_COARSE`), the kernel's
 * `current_time()`, statx(2).
 */
import { checked, cString, libc, loadFunctions } from "./libc.ts";

const CLOCK_REALTIME_COARSE = 5;

const interfaceOfLibc = {
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
} as const;

let loaded: Deno.DynamicLibrary<typeof interfaceOfLibc>["symbols"] | undefined;

/** Returns the time that a file changed now would get, in nanoseconds since the epoch. */
export function fileClock(): bigint {
  const { clock_gettime } = loaded ??= loadFunctions(interfaceOfLibc);
  const time = new BigInt64Array(2);
  const bytes = new Uint8Array(time.buffer);
  checked("Cannot read the clock", () => clock_gettime(CLOCK_REALTIME_COARSE, bytes));
  return time[0]! * 1_000_000_000n + time[1]!;
}

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const STATX_CTIME = 0x80;
const ctimeOffset = 96;

/**
 * Returns when content or attributes of a file last changed, in nanoseconds since the epoch; nobody
 * can set this time. `Deno.stat` knows the whole second alone.
 *
 * @param followsLink Whether the file behind a symbolic link is meant.
 * @throws {LinuxError} when there is no such file.
 */
export function changeTime(path: string, followsLink: boolean): bigint {
  const status = new Uint8Array(256);
  const name = cString(path);
  const flags = followsLink ? 0 : AT_SYMLINK_NOFOLLOW;
  checked(
    `Cannot look at "${path}"`,
    () => libc().statx(AT_FDCWD, name, flags, STATX_CTIME, status),
  );
  const view = new DataView(status.buffer);
  return view.getBigInt64(ctimeOffset, true) * 1_000_000_000n +
    BigInt(view.getUint32(ctimeOffset + 8, true));
}
