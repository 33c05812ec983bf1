/**
 * One at a time per network namespace. The lock is a name of a socket inside of the namespace
 * (`unix(7)`, abstract address): no file that somebody could have placed there, nothing that waits
 * for other namespaces, and the kernel gives it back when its holder dies.
 */
import { EADDRINUSE, EBUSY, LinuxError } from "./errno.ts";
import { checked, FileDescriptor, lastErrno, libc } from "./libc.ts";
import { pauseThread } from "./poll.ts";

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;
/** The name as `ss -xa` and `/proc/net/unix` show it, with `@` for its leading NUL. */
const NAME = "kuma-cni/rules";
/** More than the time that the slowest holder has for all its tools. */
const PATIENCE_MS = 35_000;
const PAUSE_MS = 5;

/**
 * Does synchronous work while nobody else does such work in the thread's network namespace. Needs
 * `--allow-ffi`.
 *
 * @param work Gets the lock's descriptor: whoever inherits it holds the lock, too.
 * @param patienceMs Longest wait for another holder.
 * @returns What `work` returned.
 * @throws {LinuxError} `EBUSY` when another one holds the lock for longer than that.
 */
export function withNetworkNamespaceLock<T>(
  work: (lock: FileDescriptor) => T,
  patienceMs: number = PATIENCE_MS,
): T {
  using lock = acquire(patienceMs);
  return work(lock);
}

function acquire(patienceMs: number): FileDescriptor {
  const attempt = "Cannot get the lock of the network namespace's rules";
  const end = performance.now() + patienceMs;
  using cleanup = new DisposableStack();
  const socket = cleanup.use(
    new FileDescriptor(checked(attempt, () => libc().socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0))),
  );
  const address = new TextEncoder().encode(`\0\0\0${NAME}`);
  new Uint16Array(address.buffer, 0, 1)[0] = AF_UNIX;
  while (libc().bind(socket.number, address, address.length) === -1) {
    const errno = lastErrno();
    if (errno !== EADDRINUSE) throw new LinuxError(attempt, errno);
    if (performance.now() >= end) {
      throw new LinuxError(
        attempt,
        EBUSY,
        `A process has held the socket name "@${NAME}" in it for ${patienceMs} ms: another ADD ` +
          `that hangs, or a process of the pod; end it and try again`,
      );
    }
    pauseThread(PAUSE_MS);
  }
  cleanup.move();
  return socket;
}
