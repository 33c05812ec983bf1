/** Switches Nagle's algorithm off for a listener of Deno's, which has no way to ask for that. */

const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;

/**
 * Sets TCP_NODELAY on a listening socket of this process; the connections that it accepts inherit it.
 * Without it an answer can wait 40 ms for the client's delayed acknowledgement, which no real API
 * server does.
 *
 * @param port The socket's local TCP port.
 * @throws {Error} when the process has no such socket or the kernel refuses.
 */
export function setNoDelay(port: number): void {
  const inodes = listeningInodes(port);
  const value = new Uint8Array(new Int32Array([1]).buffer);
  // Closed again at once: a library that stays open would count as a leak of the running test.
  const library = Deno.dlopen("libc.so.6", {
    setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  });
  let found = 0;
  try {
    for (const { name } of Deno.readDirSync("/proc/self/fd")) {
      if (!inodes.has(linkTarget(`/proc/self/fd/${name}`))) continue;
      found++;
      if (
        library.symbols.setsockopt(Number(name), IPPROTO_TCP, TCP_NODELAY, value, value.length) !==
          0
      ) {
        throw new Error(`Cannot set TCP_NODELAY on the listener of port ${port}`);
      }
    }
  } finally {
    library.close();
  }
  if (found === 0) throw new Error(`No socket of this process listens on TCP port ${port}`);
}

/** The link targets in /proc/self/fd of the sockets that listen on a port, of both families. */
function listeningInodes(port: number): Set<string> {
  const listening = "0A";
  const hexadecimal = port.toString(16).toUpperCase().padStart(4, "0");
  const inodes = new Set<string>();
  // Of this thread: it may be in another network namespace than the rest of the process.
  for (const table of ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]) {
    for (const line of Deno.readTextFileSync(table).split("\n").slice(1)) {
      const fields = line.trim().split(/\s+/);
      if (fields[3] === listening && fields[1]?.endsWith(`:${hexadecimal}`)) {
        inodes.add(`socket:[${fields[9]}]`);
      }
    }
  }
  return inodes;
}

function linkTarget(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch {
    // The descriptor of the folder that is being read is gone by now.
    return "";
  }
}
