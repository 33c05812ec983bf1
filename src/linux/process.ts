/**
 * Runs programs synchronously in the calling thread's namespaces, with bounded time. `Deno.Command`
 * can do neither: its synchronous form has no time limit and no input, and its asynchronous form
 * would need an `await` inside of a foreign network namespace. Input and output are anonymous files
 * in memory (`memfd_create(2)`), so that no file name exists that somebody could guess.
 *
 * All functions need `--allow-ffi`. Facts: `posix_spawn(3)`, `memfd_create(2)`, `pidfd_open(2)`,
 * `waitpid(2)`.
 */
import { EINTR, EMSGSIZE, LinuxError } from "./errno.ts";
import { readKernelFile } from "./kernel_file.ts";
import { addressOf, cString, lastErrno, loadFunctions } from "./libc.ts";

/** A program to run; no shell is involved and nothing of the own environment is inherited. */
export interface Program {
  /** Absolute path; `PATH` is not searched. */
  readonly path: string;
  /** Arguments without the program's own name. */
  readonly args: readonly string[];
  /** The complete environment of the program. */
  readonly env: Readonly<Record<string, string>>;
  /** What the program reads from its standard input; without it that is empty. */
  readonly input?: string;
  /** Number of an open file that the program inherits, as its number 3. */
  readonly inherits?: number;
}

/** How a program ended. */
export interface ProgramResult {
  /** Exit status, or `undefined` when a signal ended it. */
  readonly status: number | undefined;
  /** Number of the signal that ended it. */
  readonly signal: number | undefined;
  /** Whether it was killed because its time was over. */
  readonly timedOut: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

const symbols = {
  posix_spawn: {
    parameters: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"],
    result: "i32",
  },
  posix_spawn_file_actions_init: { parameters: ["buffer"], result: "i32" },
  posix_spawn_file_actions_adddup2: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  posix_spawn_file_actions_addclosefrom_np: {
    parameters: ["buffer", "i32"],
    result: "i32",
    optional: true,
  },
  posix_spawn_file_actions_destroy: { parameters: ["buffer"], result: "i32" },
  posix_spawnattr_init: { parameters: ["buffer"], result: "i32" },
  posix_spawnattr_setflags: { parameters: ["buffer", "i16"], result: "i32" },
  posix_spawnattr_setsigdefault: { parameters: ["buffer", "buffer"], result: "i32" },
  posix_spawnattr_setsigmask: { parameters: ["buffer", "buffer"], result: "i32" },
  posix_spawnattr_destroy: { parameters: ["buffer"], result: "i32" },
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
  kill: { parameters: ["i32", "i32"], result: "i32" },
  waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
  syscall: { parameters: ["i64", "i64", "i64"], result: "i64" },
} as const;

const MFD_CLOEXEC = 1;
const SEEK_END = 2;
const SIGKILL = 9;
const ECHILD = 10;
const POLLIN = 1;
const SYS_pidfd_open = 434;
const POSIX_SPAWN_SETPGROUP = 2;
const POSIX_SPAWN_SETSIGDEF = 4;
const POSIX_SPAWN_SETSIGMASK = 8;
/** More than glibc's `posix_spawnattr_t` (336), `posix_spawn_file_actions_t` (80), `sigset_t` (128). */
const OPAQUE_SIZE = 512;
/** Bound of what is kept of a program's output; a rule set is far smaller. */
const MAX_OUTPUT = 16 * 1024 * 1024;

let library: Deno.DynamicLibrary<typeof symbols>["symbols"] | undefined;

function libc(): Deno.DynamicLibrary<typeof symbols>["symbols"] {
  return library ??= loadFunctions(symbols);
}

/** A NULL-terminated array of strings; the strings must stay referenced while it is in use. */
class CStrings {
  readonly #strings: Uint8Array<ArrayBuffer>[];
  readonly pointers: Uint8Array<ArrayBuffer>;

  constructor(texts: readonly string[]) {
    this.#strings = texts.map(cString);
    const addresses = this.#strings.map(addressOf);
    this.pointers = new Uint8Array(new BigUint64Array([...addresses, 0n]).buffer);
  }
}

/** An anonymous file in memory. */
class MemoryFile implements Disposable {
  readonly fd: number;

  constructor(content = "") {
    this.fd = libc().memfd_create(cString("kuma-cni"), MFD_CLOEXEC);
    if (this.fd < 0) throw new LinuxError("Cannot create a file in memory", lastErrno());
    const bytes = new TextEncoder().encode(content);
    // Written at an offset: the file position, which the program inherits, stays at the beginning.
    for (let done = 0; done < bytes.length;) {
      const rest = bytes.subarray(done);
      const wrote = Number(libc().pwrite(this.fd, rest, BigInt(rest.length), BigInt(done)));
      if (wrote <= 0) {
        const error = lastErrno();
        libc().close(this.fd);
        throw new LinuxError("Cannot write to a file in memory", error);
      }
      done += wrote;
    }
  }

  text(): string {
    const size = Number(libc().lseek(this.fd, 0n, SEEK_END));
    if (size > MAX_OUTPUT) {
      throw new LinuxError("Cannot take the output of a program", EMSGSIZE, `${size} bytes`);
    }
    if (size <= 0) return "";
    const bytes = new Uint8Array(size);
    const got = Number(libc().pread(this.fd, bytes, BigInt(size), 0n));
    return new TextDecoder().decode(bytes.subarray(0, Math.max(got, 0)));
  }

  [Symbol.dispose](): void {
    libc().close(this.fd);
  }
}

/** A started program. */
class Running implements Disposable {
  readonly #files: readonly [MemoryFile, MemoryFile, MemoryFile];
  readonly #pid: number;
  #ended = false;

  constructor(program: Program) {
    using cleanup = new DisposableStack();
    this.#files = [
      cleanup.use(new MemoryFile(program.input)),
      cleanup.use(new MemoryFile()),
      cleanup.use(new MemoryFile()),
    ];
    this.#pid = spawn(program, this.#files.map((file) => file.fd));
    cleanup.move();
  }

  /** Waits for the end; kills the program and its children when that is later than `deadline`. */
  wait(deadline: number): ProgramResult {
    const timedOut = !waitUntil(this.#pid, deadline);
    // The program has a process group of its own, so that its children end with it.
    if (timedOut) libc().kill(-this.#pid, SIGKILL);
    const status = this.#reap();
    const [, stdout, stderr] = this.#files;
    const signal = status & 0x7f;
    return {
      status: signal === 0 ? (status >> 8) & 0xff : undefined,
      signal: signal === 0 ? undefined : signal,
      timedOut,
      stdout: stdout.text(),
      stderr: stderr.text(),
    };
  }

  #reap(): number {
    const status = new Uint8Array(4);
    for (;;) {
      if (libc().waitpid(this.#pid, status, 0) === this.#pid) break;
      const error = lastErrno();
      if (error === EINTR) continue;
      // A parent that ignores SIGCHLD hands that down, and then the kernel keeps no status.
      const detail = error === ECHILD
        ? "SIGCHLD is ignored in this process; start it with the default"
        : undefined;
      throw new LinuxError("Cannot learn how a program ended", error, detail);
    }
    this.#ended = true;
    return new DataView(status.buffer).getInt32(0, true);
  }

  [Symbol.dispose](): void {
    if (!this.#ended) {
      libc().kill(-this.#pid, SIGKILL);
      this.#reap();
    }
    for (const file of this.#files) file[Symbol.dispose]();
  }
}

function spawn(program: Program, stdio: readonly number[]): number {
  const actions = new Uint8Array(OPAQUE_SIZE);
  const attributes = new Uint8Array(OPAQUE_SIZE);
  const { args, path, env } = program;
  const argv = new CStrings([path, ...args]);
  const envp = new CStrings(Object.entries(env).map(([name, value]) => `${name}=${value}`));
  const pid = new Uint8Array(4);
  const c = libc();
  c.posix_spawn_file_actions_init(actions);
  c.posix_spawnattr_init(attributes);
  try {
    const files = program.inherits === undefined ? stdio : [...stdio, program.inherits];
    files.forEach((fd, i) => c.posix_spawn_file_actions_adddup2(actions, fd, i));
    // Our own files close by themselves; these are what a careless parent has left open. The C library
    // has this since glibc 2.34.
    c.posix_spawn_file_actions_addclosefrom_np?.(actions, files.length);
    // Deno ignores SIGPIPE and may block signals; a program expects neither. The process group is
    // the attributes' initial 0: a new one named after the program's own id.
    c.posix_spawnattr_setflags(
      attributes,
      POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK,
    );
    c.posix_spawnattr_setsigdefault(attributes, new Uint8Array(OPAQUE_SIZE).fill(0xff));
    c.posix_spawnattr_setsigmask(attributes, new Uint8Array(OPAQUE_SIZE));
    const error = c.posix_spawn(
      pid,
      cString(path),
      actions,
      attributes,
      argv.pointers,
      envp.pointers,
    );
    if (error !== 0) throw new LinuxError(`Cannot start "${path}"`, error);
    return new DataView(pid.buffer).getInt32(0, true);
  } finally {
    c.posix_spawn_file_actions_destroy(actions);
    c.posix_spawnattr_destroy(attributes);
  }
}

/** Waits until a child has ended, without reaping it; tells whether it has before the deadline. */
function waitUntil(pid: number, deadline: number): boolean {
  const c = libc();
  const pidfd = Number(c.syscall(BigInt(SYS_pidfd_open), BigInt(pid), 0n));
  if (pidfd < 0) return waitByAsking(pid, deadline);
  try {
    const set = new Uint8Array(8);
    new DataView(set.buffer).setInt32(0, pidfd, true);
    set[4] = POLLIN;
    for (;;) {
      const left = Math.ceil(deadline - performance.now());
      const ready = c.poll(set, 1n, Math.max(left, 0));
      if (ready > 0) return true;
      if (ready === 0 && left <= 0) return false;
    }
  } finally {
    c.close(pidfd);
  }
}

/** The same for kernels before 5.3, which have no `pidfd_open(2)`. */
function waitByAsking(pid: number, deadline: number): boolean {
  for (;;) {
    if (isZombie(pid)) return true;
    if (performance.now() >= deadline) return false;
    libc().poll(new Uint8Array(8), 0n, 1);
  }
}

function isZombie(pid: number): boolean {
  try {
    const stat = readKernelFile(`/proc/${pid}/stat`);
    return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3) === "Z";
  } catch {
    return true;
  }
}

/**
 * Runs programs at the same time and waits for all of them.
 *
 * @param programs what to run
 * @param timeoutMs milliseconds from now after which those that still run are killed
 * @returns how each one ended, in the same order
 * @throws {LinuxError} when one cannot be started (`ENOENT`, `EACCES`, `ENOEXEC`, …); the others are
 * killed then
 */
export function runPrograms(programs: readonly Program[], timeoutMs: number): ProgramResult[] {
  using started = new DisposableStack();
  const deadline = performance.now() + timeoutMs;
  const running = programs.map((program) => started.use(new Running(program)));
  return running.map((program) => program.wait(deadline));
}

/**
 * Runs one program and waits for it.
 *
 * @throws {LinuxError} when it cannot be started
 */
export function runProgram(program: Program, timeoutMs: number): ProgramResult {
  const [result] = runPrograms([program], timeoutMs);
  if (result === undefined) throw new TypeError("A program without a result");
  return result;
}
