/** The agent killed in calls that it serves, before one call of the C library after the other. */
import assert from "node:assert/strict";
import { injectedPod } from "./pods.ts";
import { endAgent, ShimWay, stateOf } from "./shim_way.ts";
import { createNamespace } from "./topology.ts";

/**
 * Kills agents before call 1, 1 + `step` and so on, until a pod's ADD is over before: what the shim
 * and the plugin make of it must be what the plugin does alone.
 *
 * @returns How many agents were killed.
 */
export async function killAgents(step: number): Promise<number> {
  const pod = injectedPod({ uid: crypto.randomUUID() });
  await using way = await ShimWay.start([pod]);
  const wanted = await way.stateWithoutAgent(pod);
  let next = 1;
  let isOver = false;
  let killed = 0;
  const kill = async () => {
    while (!isOver) {
      const point = next;
      next += step;
      const what = `killed before call ${point}`;
      const { shim, agent } = await way.withAgent({ fault: `SIGKILL ${point}` });
      using netns = createNamespace();
      await way.add(shim, pod, netns, { what });
      assert.equal(stateOf(netns), wanted, what);
      if ((await endAgent(agent)).signal === "SIGKILL") killed++;
      else isOver = true;
    }
  };
  await Promise.all([kill(), kill(), kill()]);
  return killed;
}
