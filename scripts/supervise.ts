/**
 * Runs a task so that all it makes goes with it, however it ends: processes, network namespaces,
 * mounts and temporary files.
 *
 * As root the work runs in a process and a mount namespace of its own, which the kernel empties when
 * their first process ends; `/run/netns` is empty in there, so that network namespaces die, too.
 * Where that is not permitted it runs in a process group of its own. Temporary files are in a folder
 * that names its owner; when even the owner was killed, the next task removes it.
 * Facts: pid_namespaces(7), mount_namespaces(7), `PR_SET_PDEATHSIG` of prctl(2).
 */
import { messageOf } from "../src/text/message_of.ts";
import { identityOf, isGone } from "./task_owner.ts";

/** Environment variable with the identity of the task that a process works for. */
export const TASK_VARIABLE = "KUMA_CNI_TASK";

/** Begin of the name of a task's folder: short, since paths of sockets have 107 bytes at most. */
const FOLDER_PREFIX = "kc.";

/** Signals that end a task, and the exit codes that shells give them. */
const SIGNALS: Readonly<Partial<Record<Deno.Signal, number>>> = {
  SIGINT: 130,
  SIGTERM: 143,
  SIGHUP: 129,
};

/**
 * The first process of a namespace: starts the work, collects orphans as init does, and ends with the
 * work's exit code. In perl (Debian: perl-base, always installed), which starts in a millisecond.
 */
const INIT = `
  my $child = fork // die "Cannot fork: $!";
  if ($child == 0) { exec { $ARGV[0] } @ARGV; die "Cannot start $ARGV[0]: $!" }
  while ((my $pid = wait) > 0) {
    next if $pid != $child;
    exit($? & 127 ? 128 + ($? & 127) : $? >> 8);
  }
`;

/** Mounts what only this task shall see, then becomes its first process. */
const ENTER = 'mkdir -p /run/netns && mount -t tmpfs -o mode=755 tmpfs /run/netns && exec "$@"';

/**
 * Does the work of a task in a process below this one, and ends this process with its exit code.
 *
 * @param module URL of the task's module, whose process calls this again below.
 * @param work The task; its result is the exit code.
 */
export async function supervise(module: string, work: () => Promise<number>): Promise<never> {
  if (Deno.env.get(TASK_VARIABLE)) Deno.exit(await reported(work));
  const ended = Promise.withResolvers<number>();
  for (const [signal, code] of Object.entries(SIGNALS)) {
    Deno.addSignalListener(signal as Deno.Signal, () => ended.resolve(code));
  }
  const owner = identityOf(Deno.pid);
  const parent = temporaryFolder();
  const folder = `${parent}/${FOLDER_PREFIX}${owner}`;
  sweep(parent, FOLDER_PREFIX);
  // Other users' processes, which tests start, find their files in it.
  Deno.mkdirSync(folder, { mode: 0o755 });
  let code = 1;
  const contained = await canContain();
  const child = start(module, contained, { [TASK_VARIABLE]: owner, TMPDIR: folder });
  try {
    code = await Promise.race([ended.promise, child.status.then((status) => status.code)]);
    kill(child, contained);
    await child.status;
  } finally {
    removeFolder(folder);
  }
  Deno.exit(code);
}

async function reported(work: () => Promise<number>): Promise<number> {
  try {
    return await work();
  } catch (error) {
    console.error(messageOf(error));
    return 1;
  }
}

/** Whether this process may make process and mount namespaces. */
async function canContain(): Promise<boolean> {
  if (Deno.uid() !== 0) return false;
  try {
    const { success } = await new Deno.Command("unshare", {
      args: ["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", ENTER, "sh", "true"],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).output();
    return success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function start(
  module: string,
  contained: boolean,
  env: Record<string, string>,
): Deno.ChildProcess {
  const task = [Deno.execPath(), "run", "--quiet", "-A", module, ...Deno.args];
  // With the death of this process, whatever killed it, the namespaces' first process is killed.
  const [program = "", ...args] = contained
    ? ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"].concat(
      ["--kill-child=KILL", "--mount-proc", "sh", "-c", ENTER, "sh", "perl", "-e", INIT],
      task,
    )
    : task;
  // A process group of its own cannot read from the terminal, which no task does.
  return new Deno.Command(program, { args, env, stdin: "inherit", detached: !contained }).spawn();
}

/** Kills the work and all its children. That they are gone, the end of `child` tells. */
function kill(child: Deno.ChildProcess, contained: boolean): void {
  try {
    if (!contained) return Deno.kill(-child.pid, "SIGKILL");
    // Of the namespaces' first process: unshare waits for it, and it for all others.
    const first = Deno.readTextFileSync(`/proc/${child.pid}/task/${child.pid}/children`).trim();
    if (first === "") child.kill("SIGKILL");
    else Deno.kill(Number(first), "SIGKILL");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof TypeError) return;
    throw error;
  }
}

/**
 * Removes what killed tasks left in a folder: entries whose name is the prefix and the identity of a
 * process that is gone. Others, of tasks that run or of other programs, stay.
 *
 * @param parent The folder.
 * @param prefix Begin of the names; behind the identity there may be more, after a `-`.
 */
export function sweep(parent: string, prefix: string): void {
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(parent)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  for (const { name } of entries) {
    if (!name.startsWith(prefix)) continue;
    const [identity = ""] = name.slice(prefix.length).split("-");
    if (isGone(identity)) removeFolder(`${parent}/${name}`);
  }
}

function removeFolder(folder: string): void {
  try {
    Deno.removeSync(folder, { recursive: true });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    console.error(`Cannot remove "${folder}": ${messageOf(error)}`);
  }
}

function temporaryFolder(): string {
  return (Deno.env.get("TMPDIR") || "/tmp").replace(/\/$/, "");
}
