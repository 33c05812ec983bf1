/**
 * The agent killed within a call that it serves, and one that cannot leave a pod's namespace: the shim
 * then has the plugin do the same call, and the pod is what it is without an agent.
 */
import assert from "node:assert/strict";
import { killAgents } from "./support/agent_kills.ts";
import "./support/load_libc.ts";
import { injectedPod } from "./support/pods.ts";
import { endAgent, ShimWay, stateOf } from "./support/shim_way.ts";
import { createNamespace } from "./support/topology.ts";

Deno.test("an agent that is killed at any point of a call costs the pod nothing", async () => {
  const killed = await killAgents();
  // Else it would have ended before the rules were written and read back.
  assert.ok(killed >= 60, `only ${killed} points`);
});

Deno.test("an agent that cannot leave a pod's namespace ends, and the plugin does the call", async () => {
  const pod = injectedPod({ uid: crypto.randomUUID() });
  await using way = await ShimWay.start([pod]);
  const wanted = await way.stateWithoutAgent(pod);
  const { shim, agent } = await way.withAgent({ fault: "no way back" });
  using netns = createNamespace();
  await way.add(shim, pod, netns);
  assert.equal(stateOf(netns), wanted);
  assert.equal((await endAgent(agent)).code, 5);
});
