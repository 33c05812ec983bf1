/**
 * Who owns a network namespace. Some requests are granted only to callers inside of the user namespace
 * that a network namespace was made in. Facts: `ioctl_nsfs(2)`, `user_namespaces(7)`.
 */
import { EPERM, LinuxError } from "./errno.ts";
import { FileDescriptor, lastErrno, libc, openForReading } from "./libc.ts";

const NS_GET_USERNS = 0xb701n;
const ENOTTY = 25;

/**
 * Opens the user namespace that owns the thread's network namespace. Needs `--allow-ffi` and
 * `--allow-read`.
 *
 * @returns `undefined` when it is the process's own, or one that this process has no power over
 * @throws {LinuxError} when the kernel refuses
 */
export function foreignUserNamespace(): FileDescriptor | undefined {
  using network = openForReading("/proc/thread-self/ns/net");
  const found = libc().ioctl(network.number, NS_GET_USERNS);
  if (found === -1) {
    const errno = lastErrno();
    // It lies outside of the own one; or the kernel is older than 4.9.
    if (errno === EPERM || errno === ENOTTY) return undefined;
    throw new LinuxError("Cannot find the user namespace of the network namespace", errno);
  }
  using cleanup = new DisposableStack();
  const owner = cleanup.use(new FileDescriptor(found));
  const [own, other] = ["/proc/thread-self/ns/user", `/proc/thread-self/fd/${found}`].map((path) =>
    Deno.statSync(path)
  );
  if (own?.dev === other?.dev && own?.ino === other?.ino) return undefined;
  cleanup.move();
  return owner;
}
