import { equal, throws } from "node:assert/strict";
import { readKernelFile } from "../src/linux/kernel_file.ts";
import { libc } from "../src/linux/libc.ts";

libc();

Deno.test("files of /proc are read whole, also those larger than one piece", () => {
  equal(readKernelFile("/proc/devices"), Deno.readTextFileSync("/proc/devices"));
  const large = readKernelFile("/proc/kallsyms");
  equal(large.length > 64 * 1024, true);
  equal(large, Deno.readTextFileSync("/proc/kallsyms"));
});

Deno.test("a file of /proc that does not exist is named in the error", () => {
  throws(() => readKernelFile("/proc/thread-self/net/no-such-file"), {
    name: "LinuxError",
    code: "ENOENT",
    message: /Cannot open "\/proc\/thread-self\/net\/no-such-file"/,
  });
});
