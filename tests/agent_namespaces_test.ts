/**
 * Namespaces that the agent enters: one in which the plugin works at the same moment, and one that
 * another user namespace owns. Who does a call must make no difference to the pod.
 */
import assert from "node:assert/strict";
import { readKernelFile } from "../src/linux/kernel_file.ts";
import "./support/load_libc.ts";
import { injectedPod, plainPod } from "./support/pods.ts";
import { ShimWay, stateOf } from "./support/shim_way.ts";
import { createNamespace, type NamedNamespace } from "./support/topology.ts";
import { createOwnedNamespace } from "./support/user_namespace.ts";

const pod = injectedPod({ uid: crypto.randomUUID() });
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What two calls must have left: the rules of one, which CHECK finds whole. */
async function assertCapturedOnce(
  way: ShimWay,
  netns: NamedNamespace,
  wanted: string,
  what: string,
): Promise<void> {
  assert.equal(stateOf(netns), wanted, what);
  const { code, stdout } = await way.call(way.plugin, pod, netns, { command: "CHECK" });
  assert.equal(code, 0, `${what}: ${stdout}`);
}

Deno.test("agent and plugin that capture one namespace at about the same time leave one's rules", async () => {
  await using way = await ShimWay.start([pod]);
  const wanted = await way.stateWithoutAgent(pod);
  const { shim } = await way.withAgent({});
  // The agent needs some milliseconds, the plugin first starts for some tens.
  for (const wait of [0, 5, 10, 15, 20, 25, 30, 40, 50, 60]) {
    for (const [first, second] of [[shim, way.plugin], [way.plugin, shim]] as const) {
      const what = `${first === shim ? "agent" : "plugin"} ${wait} ms before the other`;
      using netns = createNamespace();
      await Promise.all([
        way.add(first, pod, netns, { what }),
        sleep(wait).then(() => way.add(second, pod, netns, { what })),
      ]);
      await assertCapturedOnce(way, netns, wanted, what);
    }
  }
});

Deno.test("an agent that is held up in a namespace finishes beside the plugin", async () => {
  await using way = await ShimWay.start([pod]);
  const wanted = await way.stateWithoutAgent(pod);
  const seen = new Set<boolean>();
  for (let point = 4; point <= 64; point += 6) {
    const what = `stopped before call ${point}`;
    const { shim, agent } = await way.withAgent({ fault: `SIGSTOP ${point}` });
    using netns = createNamespace();
    const served = way.add(shim, pod, netns, { what });
    await untilStopped(agent.pid);
    const locked = isLocked(netns);
    seen.add(locked);
    const byPlugin = way.add(way.plugin, pod, netns, { what });
    const waited = Promise.withResolvers<void>();
    const timer = setTimeout(waited.resolve, 300);
    const ended = await Promise.race([byPlugin.then(() => true), waited.promise]);
    clearTimeout(timer);
    if (locked) assert.notEqual(ended, true, `The plugin must wait for an agent ${what}`);
    agent.kill("SIGCONT");
    await Promise.all([served, byPlugin]);
    await assertCapturedOnce(way, netns, wanted, what);
  }
  // Else there was nothing to wait for, or nothing else.
  assert.deepEqual([...seen].sort(), [false, true]);
});

function isLocked(netns: NamedNamespace): boolean {
  return netns.run(() => readKernelFile("/proc/thread-self/net/unix")).includes("@kuma-cni/rules");
}

async function untilStopped(pid: number): Promise<void> {
  for (let i = 0; !/\) T /.test(readKernelFile(`/proc/${pid}/stat`)); i++) {
    // The shim itself waits for 3 s.
    assert.ok(i < 500, "The agent was not stopped");
    await sleep(5);
  }
}

for (const engine of ["auto", "nftables", "iptables"]) {
  Deno.test(`engine ${engine}: a pod with its own user namespace is captured through the shim`, async () => {
    await using way = await ShimWay.start([pod]);
    // Without a plugin, where the agent must do it by itself.
    const { shim } = await way.withAgent(engine === "iptables" ? {} : { program: "/not/there" });
    using netns = createOwnedNamespace();
    await way.add(shim, pod, netns, { engine });
    assert.match(stateOf(netns), engine === "iptables" ? /KUMA_MESH/ : /kuma_mesh/);
    const { code, stdout } = await way.call(way.plugin, pod, netns, { command: "CHECK", engine });
    assert.equal(code, 0, stdout);
  });
}

Deno.test("pods outside of the mesh with their own user namespace are answered by the agent, untouched", async () => {
  const plain = plainPod({ name: "plain", uid: crypto.randomUUID() });
  const excluded = injectedPod({ namespace: "kube-system", uid: crypto.randomUUID() });
  await using way = await ShimWay.start([plain, excluded]);
  const { shim } = await way.withAgent({ program: "/not/there" });
  for (const outside of [plain, excluded]) {
    using netns = createOwnedNamespace();
    const before = stateOf(netns);
    await way.add(shim, outside, netns);
    assert.equal(stateOf(netns), before);
  }
});
