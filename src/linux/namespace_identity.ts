/**
 * Which network namespace the calling thread is in, told apart from all others of this machine.
 *
 * Device and inode name a namespace only while it lives: the kernel gives the inode number to the
 * next one. The cookie (`SO_NETNS_COOKIE`, Linux 5.14 and later) is never given twice between two
 * boots, and the boot's own identifier says between which. Facts: socket(7), namespaces(7),
 * `net/core/net_namespace.c`.
 */
import { EINVAL, ENOPROTOOPT, LinuxError } from "./errno.ts";
import { readKernelFile } from "./kernel_file.ts";
import { checked, FileDescriptor, libc } from "./libc.ts";

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;
const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;

/** One network namespace of one boot. */
export interface NamespaceIdentity {
  readonly device: number;
  readonly inode: number;
  /** Decimal; absent on kernels before 5.14. */
  readonly cookie?: string;
  /** The kernel's random identifier of the boot. */
  readonly boot: string;
}

/**
 * Tells the identity of the network namespace that the calling thread is in. Synchronous; needs
 * `--allow-ffi` and `--allow-read`.
 *
 * @param socket Any socket that was made in it; without it one is made.
 * @throws {LinuxError} when the kernel refuses to tell.
 */
export function networkNamespaceIdentity(socket?: FileDescriptor): NamespaceIdentity {
  const { dev, ino } = Deno.statSync("/proc/thread-self/ns/net");
  const cookie = socket === undefined ? cookieByNewSocket() : cookieOf(socket);
  return {
    device: dev,
    inode: ino ?? 0,
    ...(cookie === undefined ? {} : { cookie }),
    boot: bootIdentifier(),
  };
}

let boot: string | undefined;

/** Returns the random identifier that the kernel has made for this boot, which no process outlives. */
export function bootIdentifier(): string {
  return boot ??= readKernelFile("/proc/sys/kernel/random/boot_id").trim();
}

/**
 * Tells whether two identities are of one namespace. Where one side has a cookie and the other has
 * none, that is a doubt, and so a no.
 */
export function isSameIdentity(one: NamespaceIdentity, other: NamespaceIdentity): boolean {
  return one.boot === other.boot && one.device === other.device && one.inode === other.inode &&
    one.cookie === other.cookie;
}

const attempt = "Cannot ask for the cookie of the network namespace";

function cookieByNewSocket(): string | undefined {
  using socket = new FileDescriptor(
    checked(attempt, () => libc().socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0)),
  );
  return cookieOf(socket);
}

function cookieOf(socket: FileDescriptor): string | undefined {
  const cookie = new BigUint64Array(1);
  const length = new Uint32Array([8]);
  try {
    checked(
      attempt,
      () => libc().getsockopt(socket.number, SOL_SOCKET, SO_NETNS_COOKIE, cookie, length),
    );
    return String(cookie[0]);
  } catch (error) {
    const isUnknown = error instanceof LinuxError &&
      (error.errno === ENOPROTOOPT || error.errno === EINVAL);
    if (!isUnknown) throw error;
    return undefined;
  }
}
