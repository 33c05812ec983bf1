/**
 * The commands of the compiled install-cni on a node with a real agent and the shim: the program has
 * fewer permissions than a test that runs its sources, and brings more files than a test's image.
 */
import { equal, match, ok } from "node:assert/strict";
import { ApiServer } from "./support/api_server.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { TestNode } from "./support/node.ts";
import { injectedPod } from "./support/pods.ts";

const list = '{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}\n';

Deno.test("the compiled program's commands find a healthy node with the shim healthy", async () => {
  const plugin = await compiledPlugin();
  await using api = await ApiServer.start({ objects: [injectedPod({ name: "web-0" })] });
  await using node = new TestNode({
    api,
    command: [await compiledInstaller()],
    sourceDir: plugin.slice(0, plugin.lastIndexOf("/")),
    env: { HEALTH_PORT: "0" },
  });
  Deno.writeTextFileSync(`${node.netDir}/10-bridge.conflist`, list);
  await node.start();
  ok(Deno.statSync(`${node.binDir}/kuma-cni`).size < 20_000, "Else the shim is not tried");
  const bundle = `${node.folder}/bundle.tar.gz`;
  const current = /^✓ plugin .* is the one of this version$/m;
  const expected: [args: string[], code: number, stdout: RegExp][] = [
    [["doctor"], 0, current],
    [["doctor", "--bundle", bundle], 0, /^Healthy: meshed pods that start now are captured/],
    [["doctor", "demo/web-0"], 0, /^demo\/web-0 is meshed/],
    [["pods"], 0, /^demo\/web-0 /m],
    [["check"], 0, current],
    [["plan"], 0, /^Nothing: everything is installed/],
  ];
  for (const [args, code, stdout] of expected) {
    const answer = await node.run(...args);
    const told = `${args.join(" ")} ended with ${answer.code}:\n${answer.stdout}${answer.stderr}`;
    match(answer.stdout, stdout, told);
    equal(answer.code, code, told);
  }
  equal((Deno.statSync(bundle).mode ?? 0) & 0o777, 0o600);
});
