/**
 * Work that sees other files at some paths, synchronously, by a mount namespace of the calling
 * thread alone. Nothing changes for the host, for other threads, or after the return.
 *
 * Needs `CAP_SYS_ADMIN`, `CAP_SYS_CHROOT` and `--allow-ffi`. Facts: `mount_namespaces(7)`,
 * `unshare(2)`, `setns(2)`.
 */
import { LinuxError } from "./errno.ts";
import { checked, cString, loadFunctions } from "./libc.ts";

/** Lets `path` show the file `source` while the work runs. */
export interface PrivateMount {
  readonly source: string;
  readonly path: string;
}

/** The thread could not return to its own files, so the process must end. */
export class LostMountNamespaceError extends LinuxError {
  override readonly name = "LostMountNamespaceError";
}

const symbols = {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  unshare: { parameters: ["i32"], result: "i32" },
  setns: { parameters: ["i32", "i32"], result: "i32" },
  mount: { parameters: ["buffer", "buffer", "buffer", "u64", "buffer"], result: "i32" },
  fchdir: { parameters: ["i32"], result: "i32" },
  chroot: { parameters: ["buffer"], result: "i32" },
} as const;

const CLONE_NEWNS = 0x20000;
const CLONE_FS = 0x200;
const MS_BIND = 0x1000n;
const MS_REC = 0x4000n;
const MS_PRIVATE = 0x40000n;
const O_PATH = 0o10000000;
const O_DIRECTORY = 0o200000;
const O_CLOEXEC = 0o2000000;

let library: Deno.DynamicLibrary<typeof symbols>["symbols"] | undefined;

function libc(): Deno.DynamicLibrary<typeof symbols>["symbols"] {
  return library ??= loadFunctions(symbols);
}

/** A file descriptor that closes at the end of its block. */
class Handle implements Disposable {
  readonly fd: number;

  constructor(path: string, flags: number) {
    const name = cString(path);
    this.fd = checked(`Cannot open "${path}"`, () => libc().open(name, flags | O_CLOEXEC));
  }

  [Symbol.dispose](): void {
    libc().close(this.fd);
  }
}

/**
 * Runs synchronous work, and the programs that it starts, with files of a private mount namespace.
 *
 * @param mounts files to show at other paths; both must exist
 * @param work gets one sentence for each thing that could not be done: it runs in any case
 * @returns what the work returned
 * @throws {LostMountNamespaceError} when the thread cannot return; end the process then
 */
export function withPrivateMounts<T>(
  mounts: readonly PrivateMount[],
  work: (problems: readonly string[]) => T,
): T {
  const problems: string[] = [];
  using home = enter(problems);
  if (home === undefined) return work(problems);
  for (const { source, path } of mounts) {
    attempt(problems, () => bind(source, path));
  }
  return work(problems);
}

function attempt(problems: string[], step: () => void): boolean {
  try {
    step();
    return true;
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    problems.push(error.message);
    return false;
  }
}

/** Enters a new mount namespace; the result's disposal returns from it. */
function enter(problems: string[]): Disposable | undefined {
  using cleanup = new DisposableStack();
  let entered = false;
  attempt(problems, () => {
    const home = cleanup.use(new Handle("/proc/thread-self/ns/mnt", 0));
    const root = cleanup.use(new Handle("/", O_PATH | O_DIRECTORY));
    const folder = cleanup.use(new Handle(".", O_PATH | O_DIRECTORY));
    // Also gives the thread a root and a working directory of its own.
    checked("Cannot make a private mount namespace", () => libc().unshare(CLONE_NEWNS));
    cleanup.defer(() => leave(home.fd, root.fd, folder.fd));
    // Without this a bind mount in here would show on the host.
    checked(
      "Cannot make the mounts of a new mount namespace private",
      () => libc().mount(null, cString("/"), null, MS_REC | MS_PRIVATE, null),
    );
    entered = true;
  });
  return entered ? cleanup.move() : undefined;
}

function leave(home: number, root: number, folder: number): void {
  const here = cString(".");
  try {
    // The kernel moves only a thread that shares its root and working directory with no other one,
    // and a thread that was started meanwhile would share them.
    checked("Cannot separate from other threads", () => libc().unshare(CLONE_FS));
    checked("Cannot enter the own mount namespace", () => libc().setns(home, CLONE_NEWNS));
    // Entering sets both to the namespace's own root, which is another one in a chroot.
    checked("Cannot enter the root folder", () => libc().fchdir(root));
    checked("Cannot make the root folder the root", () => libc().chroot(here));
    checked("Cannot enter the working directory", () => libc().fchdir(folder));
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    throw new LostMountNamespaceError(
      `Cannot return from a private mount namespace: ${error.message}`,
      error.errno,
      "The process must end now",
    );
  }
}

function bind(source: string, path: string): void {
  checked(
    `Cannot mount "${source}" over "${path}"`,
    () => libc().mount(cString(source), cString(path), null, MS_BIND, null),
  );
}
