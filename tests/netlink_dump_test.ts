/** A listing that the kernel marks as interrupted by a change counts for nothing. */
import assert from "node:assert/strict";
import { LinuxError } from "../src/linux/errno.ts";
import { libc } from "../src/linux/libc.ts";
import { listLinks } from "../src/linux/addresses.ts";
import { createNamespace } from "./support/topology.ts";

const NLM_F_DUMP_INTR = 0x10;
/** Place of the flags in a netlink header. */
const FLAGS_AT = 6;

const functions: { recv: ReturnType<typeof libc>["recv"]; send: ReturnType<typeof libc>["send"] } =
  libc();

/** Lets the kernel's first answers look interrupted, and takes the interface's name out of them. */
function interrupted<T>(answers: number, work: () => T): { result: T; requests: number } {
  const { recv, send } = functions;
  let requests = 0;
  functions.send = (...parameters) => {
    requests++;
    return send(...parameters);
  };
  functions.recv = (fd, buffer, length, flags) => {
    const received = recv(fd, buffer, length, flags);
    const bytes = buffer as Uint8Array<ArrayBuffer>;
    if (requests <= answers) {
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      view.setUint16(FLAGS_AT, view.getUint16(FLAGS_AT, true) | NLM_F_DUMP_INTR, true);
      const name = bytes.subarray(0, Number(received)).findIndex((byte, i) =>
        byte === 0x6c && bytes[i + 1] === 0x6f && bytes[i + 2] === 0
      );
      if (name >= 0) bytes[name] = 0x78;
    }
    return received;
  };
  try {
    const result = work();
    return { result, requests };
  } finally {
    Object.assign(functions, { recv, send });
  }
}

Deno.test("an interrupted netlink dump is asked for again, and none of it is taken", () => {
  using namespace = createNamespace();
  namespace.run(() => {
    assert.deepEqual(interrupted(0, listLinks).requests, 1);
    const { result, requests } = interrupted(2, listLinks);
    assert.equal(requests, 3);
    assert.equal(result.filter(({ loopback }) => loopback).length, 1);
    assert.ok(result.some(({ name }) => name === "lo"), JSON.stringify(result));
  });
});

Deno.test("a netlink dump that is interrupted each time is an error", () => {
  using namespace = createNamespace();
  namespace.run(() =>
    assert.throws(
      () => interrupted(1000, listLinks),
      (error) =>
        error instanceof LinuxError && error.code === "EAGAIN" &&
        /^Cannot list the network interfaces: .*Changed during each of 10 readings$/.test(
          error.message,
        ),
    )
  );
});
