import assert from "node:assert/strict";
import { readKernelFile } from "../src/linux/kernel_file.ts";
import { lastErrno, libc } from "../src/linux/libc.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../src/linux/netlink.ts";
import { createNamespace } from "./support/topology.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const ECONNREFUSED = 111;

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

/** Port numbers of a protocol's sockets in the thread's network namespace, the kernel's 0 left out. */
function ports(protocol: number): number[] {
  return readKernelFile("/proc/thread-self/net/netlink").split("\n").slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter(([, found, port]) => Number(found) === protocol && Number(port) !== 0)
    .map(([, , port]) => Number(port));
}

/** Sends a word to a netlink socket as any process with rights over the namespace can. */
function sendTo(protocol: number, port: number): number {
  const functions = Deno.dlopen("libc.so.6", {
    sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "i32" },
  });
  const fd = libc().socket(AF_NETLINK, SOCK_RAW, protocol);
  const address = new DataView(new ArrayBuffer(12));
  address.setUint16(0, AF_NETLINK, true);
  address.setUint32(4, port, true);
  try {
    const to = new Uint8Array(address.buffer);
    const sent = functions.symbols.sendto(fd, new Uint8Array(16), 16n, 0, to, 12);
    return sent === -1 ? lastErrno() : 0;
  } finally {
    libc().close(fd);
    functions.close();
  }
}

for (
  const [name, protocol] of [["route", NETLINK_ROUTE], ["netfilter", NETLINK_NETFILTER]] as const
) {
  Deno.test(`nobody but the kernel can talk to our ${name} sockets`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      using _ours = new NetlinkSocket(protocol);
      const found = ports(protocol);
      assert.equal(found.length, 1);
      assert.equal(sendTo(protocol, found[0]!), ECONNREFUSED);
    });
  });
}
