/** The agent killed in calls that it serves, before one call of the C library after the other. */
import assert from "node:assert/strict";
import { injectedPod } from "./pods.ts";
import { endAgent, ShimWay, stateOf } from "./shim_way.ts";
import { createNamespace } from "./topology.ts";

/**
 * Kills agents before call 1, 2 and so on, until a pod's ADD is over before: what the shim and the
 * plugin make of it must be what the plugin does alone.
 *
 * @returns How many agents were killed.
 */
export async function killAgents(): Promise<number> {
  const pod = injectedPod({ uid: crypto.randomUUID() });
  await using way = await ShimWay.start([pod]);
  const wanted = await way.stateWithoutAgent(pod);
  let next = 1;
  let isOver = false;
  let killed = 0;
  /** Tells how the agent of one ADD ended. */
  const add = async (point: number): Promise<"killed" | "served" | "too late"> => {
    const what = `killed before call ${point}`;
    const { shim, agent } = await way.withAgent({ fault: `SIGKILL ${point}` });
    using netns = createNamespace();
    await way.add(shim, pod, netns, { what });
    assert.equal(stateOf(netns), wanted, what);
    const { signal, code } = await endAgent(agent);
    return signal === "SIGKILL" ? "killed" : code === 0 ? "served" : "too late";
  };
  const kill = async () => {
    while (!isOver) {
      const point = next++;
      let end = await add(point);
      // On a busy machine the agent hands back what it would else have served.
      for (let i = 0; end === "too late" && i < 20; i++) end = await add(point);
      assert.notEqual(end, "too late", `Call ${point} was never made`);
      if (end === "killed") killed++;
      else isOver = true;
    }
  };
  await Promise.all([kill(), kill(), kill()]);
  return killed;
}
