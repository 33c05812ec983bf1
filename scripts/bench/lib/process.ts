/** Measures whole processes: wall time from before `posix_spawn(3)` until it was waited for. */

/** How to start a process. */
export interface ProcessOptions {
  readonly program: string;
  readonly args?: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** File that becomes standard input; `/dev/null` by default. */
  readonly stdin?: string;
  /** File that standard output and error go to; `/dev/null` by default. */
  readonly output?: string;
}

/** What a process took. */
export interface ProcessFigures {
  /** Exit code; 128 and the number of the signal when a signal ended it. */
  readonly code: number;
  readonly wallMilliseconds: number;
  /** User and system time of all its threads. */
  readonly cpuMilliseconds: number;
}

const O_RDONLY = 0;
const O_WRONLY_CREAT_APPEND = 0o2101;
/** `posix_spawn_file_actions_t` has 80 bytes in glibc. */
const fileActionsSize = 128;

const open = () =>
  Deno.dlopen("libc.so.6", {
    posix_spawn: {
      parameters: ["buffer", "buffer", "buffer", "pointer", "buffer", "buffer"],
      result: "i32",
    },
    posix_spawn_file_actions_init: { parameters: ["buffer"], result: "i32" },
    posix_spawn_file_actions_addopen: {
      parameters: ["buffer", "i32", "buffer", "i32", "u32"],
      result: "i32",
    },
    posix_spawn_file_actions_destroy: { parameters: ["buffer"], result: "i32" },
    // On another thread, so that a server in this process can answer meanwhile.
    wait4: { parameters: ["i32", "buffer", "i32", "buffer"], result: "i32", nonblocking: true },
  }).symbols;
let libc: ReturnType<typeof open> | undefined;

/**
 * Runs a process and measures it.
 *
 * @throws {Error} when it cannot be started.
 */
export async function measureProcess(options: ProcessOptions): Promise<ProcessFigures> {
  libc ??= open();
  const program = cString(options.program);
  const args = [options.program, ...options.args ?? []].map(cString);
  const env = Object.entries(options.env).map(([name, value]) => cString(`${name}=${value}`));
  const stdin = cString(options.stdin ?? "/dev/null");
  const output = cString(options.output ?? "/dev/null");
  const actions = new Uint8Array(fileActionsSize);
  libc.posix_spawn_file_actions_init(actions);
  libc.posix_spawn_file_actions_addopen(actions, 0, stdin, O_RDONLY, 0);
  for (const number of [1, 2]) {
    libc.posix_spawn_file_actions_addopen(actions, number, output, O_WRONLY_CREAT_APPEND, 0o600);
  }
  const argv = pointers(args);
  const envp = pointers(env);
  const pid = new Int32Array(1);

  const started = performance.now();
  const error = libc.posix_spawn(asBytes(pid), program, actions, null, argv, envp);
  if (error !== 0) throw new Error(`Cannot start "${options.program}": error number ${error}`);
  const status = new Int32Array(1);
  const usage = new BigInt64Array(18);
  await libc.wait4(pid[0] ?? 0, asBytes(status), 0, asBytes(usage));
  const wallMilliseconds = performance.now() - started;
  libc.posix_spawn_file_actions_destroy(actions);

  const state = status[0] ?? 0;
  // Two struct timeval at the start: user time, then system time, each seconds and microseconds.
  const [userSeconds = 0n, userMicros = 0n, systemSeconds = 0n, systemMicros = 0n] = usage;
  return {
    code: (state & 0x7f) === 0 ? state >> 8 : 128 + (state & 0x7f),
    wallMilliseconds,
    cpuMilliseconds: Number(userSeconds + systemSeconds) * 1e3 +
      Number(userMicros + systemMicros) / 1e3,
  };
}

/** Calls `wait4` and prints `ru_maxrss`, from a process that is itself small. */
const peakScript = `
  my %number = (x86_64 => 61, aarch64 => 260);
  my $machine = (split ' ', \`uname -m\`)[0];
  my $pid = fork;
  if ($pid == 0) {
    open STDIN, '<', shift @ARGV;
    open STDOUT, '>', '/dev/null';
    open STDERR, '>', '/dev/null';
    exec { $ARGV[0] } @ARGV;
    exit 127;
  }
  my ($status, $usage) = ("\\0" x 4, "\\0" x 144);
  syscall($number{$machine}, $pid, $status, 0, $usage);
  print +(unpack 'q18', $usage)[4];
`;

/**
 * Measures the largest resident memory of a process.
 *
 * A process starts with the peak of the one that it was forked from, so it is not forked from us
 * but from perl (Debian: perl-base, always installed), which is much smaller than any program here.
 *
 * @returns Peak in KiB.
 */
export async function measurePeakMemory(options: ProcessOptions): Promise<number> {
  const { stdout } = await new Deno.Command("perl", {
    args: ["-e", peakScript, options.stdin ?? "/dev/null", options.program, ...options.args ?? []],
    clearEnv: true,
    env: { PATH: "/usr/bin:/bin", ...options.env },
    stdin: "null",
  }).output();
  return Number(new TextDecoder().decode(stdout));
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

function asBytes(numbers: Int32Array<ArrayBuffer> | BigInt64Array<ArrayBuffer>) {
  return new Uint8Array(numbers.buffer);
}

/** A NULL-terminated array of pointers; the strings must be kept alive meanwhile. */
function pointers(strings: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const array = new BigUint64Array(strings.length + 1);
  strings.forEach((text, i) => {
    array[i] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(text)) as bigint;
  });
  return new Uint8Array(array.buffer);
}
