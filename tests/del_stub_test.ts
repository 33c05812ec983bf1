/** The stub that answers DEL after uninstalling, started for real on both architectures. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { delStub, isDelStub, type StubArchitecture } from "../installer/host/del_stub.ts";
import { supportedVersions } from "../src/cni/versions.ts";

/** Starts a stub as libcni does. */
async function call(
  command: readonly string[],
  environment: Record<string, string>,
  stdin: Uint8Array<ArrayBuffer>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = new Deno.Command(command[0]!, {
    args: command.slice(1),
    clearEnv: true,
    env: environment,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(stdin);
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

const answers: readonly [environment: Record<string, string>, answer: "done" | "refused"][] = [
  [{ CNI_COMMAND: "DEL" }, "done"],
  [{ A: "CNI_COMMAND=ADD", CNI_COMMAND: "DEL", CNI_COMMANDS: "ADD", Z: "" }, "done"],
  [{ CNI_COMMAND: "CHECK" }, "done"],
  [{ CNI_COMMAND: "GC" }, "done"],
  [{ CNI_COMMAND: "ADD" }, "refused"],
  [{ CNI_COMMAND: "STATUS" }, "refused"],
  [{ CNI_COMMAND: "DELETE" }, "refused"],
  [{ CNI_COMMAND: "GCX" }, "refused"],
  [{ CNI_COMMAND: "" }, "refused"],
  [{ CNI_CONTAINERID: "x" }, "refused"],
  [{}, "refused"],
];

for (
  const [architecture, emulator] of [
    ["x86_64", "qemu-x86_64"],
    ["aarch64", "qemu-aarch64"],
  ] as [StubArchitecture, string][]
) {
  Deno.test(`the stub answers DEL, and refuses what it cannot do (${architecture})`, async () => {
    const folder = Deno.makeTempDirSync({ prefix: "kuma-test-" });
    try {
      const path = `${folder}/kuma-cni`;
      Deno.writeFileSync(path, delStub(architecture), { mode: 0o755 });
      const command = Deno.build.arch === architecture ? [path] : [emulator, path];
      // More than a pipe holds: a program that does not read would make its caller fail.
      const stdin = new Uint8Array(300_000).fill(0x20);
      for (const [environment, answer] of answers) {
        const result = await call(command, environment, stdin);
        equal(result.stderr, "", JSON.stringify(environment));
        if (answer === "done") deepEqual([result.code, result.stdout], [0, ""]);
        else {
          equal(result.code, 1, JSON.stringify(environment));
          const { cniVersion, code, msg } = JSON.parse(result.stdout);
          deepEqual([cniVersion, code], ["1.1.0", 50]);
          ok(msg.includes("kuma-cni was uninstalled from this node"), msg);
        }
      }
      const version = await call(command, { CNI_COMMAND: "VERSION" }, new Uint8Array());
      equal(version.code, 0);
      deepEqual(JSON.parse(version.stdout).supportedVersions, supportedVersions());
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  });
}

Deno.test("the stub is small, the same each time, and known as what it is", () => {
  for (const architecture of ["x86_64", "aarch64"] as const) {
    const stub = delStub(architecture);
    ok(stub.length < 1024, `${stub.length} bytes`);
    deepEqual(stub, delStub(architecture));
    ok(isDelStub(stub));
    ok(!isDelStub(stub.subarray(0, -1)));
  }
  ok(!isDelStub(new TextEncoder().encode("#!/bin/sh\n")));
});
