/**
 * The agent killed at points all along a call, before one of its calls of the C library: the shim then
 * has the plugin do the same call, and the pod is what it is without an agent.
 */
import assert from "node:assert/strict";
import { listAddresses } from "../src/linux/addresses.ts";
import { withPaths } from "../src/shim/places.ts";
import { startPlayedAgent } from "./support/agent_way.ts";
import { ApiServer } from "./support/api_server.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { listRuleset } from "./support/nft.ts";
import { injectedPod } from "./support/pods.ts";
import { callPlugin, newContainerId } from "./support/runtime.ts";
import { compiledShim } from "./support/shim.ts";
import { createNamespace } from "./support/topology.ts";

/** From before the look-up until after the way back; a call has some ninety such calls. */
const points = [1, 6, 12, 20, 30, 40, 50, 60, 70];

Deno.test("an agent that is killed at any point of a call costs the pod nothing", async () => {
  const plugin = await compiledPlugin();
  const pod = injectedPod({ uid: crypto.randomUUID() });
  await using api = await ApiServer.start({ objects: [pod] });
  const folder = Deno.makeTempDirSync({ prefix: "kuma-kill-" });
  Deno.chmodSync(folder, 0o700);
  try {
    await api.writeKubeconfig(`${folder}/kubeconfig`);
    const add = async (program: string): Promise<string> => {
      using netns = createNamespace();
      const { code, stdout } = await callPlugin(program, {
        command: "ADD",
        containerId: newContainerId(),
        netns: netns.path,
        pod: { namespace: "demo", name: pod.metadata.name, uid: pod.metadata.uid! },
        network: {
          cniVersion: "0.4.0",
          name: "bed",
          type: "kuma-cni",
          kubernetes: { kubeconfig: `${folder}/kubeconfig` },
        },
        prevResult: { cniVersion: "0.4.0", ips: [] },
      });
      assert.equal(code, 0, stdout);
      return JSON.stringify([listRuleset(netns), netns.run(() => listAddresses())]);
    };
    const wanted = await add(plugin);
    for (const point of points) {
      const socket = `${folder}/${point}.sock`;
      const shim = `${folder}/${point}.shim`;
      const paths = { socket, program: plugin };
      Deno.writeFileSync(shim, withPaths(await compiledShim(), paths), { mode: 0o755 });
      const agent = await startPlayedAgent(socket, String(point));
      assert.equal(await add(shim), wanted, `killed before call ${point}`);
      // Else nothing was tried: the call was over before.
      assert.equal((await agent.status).signal, "SIGKILL", `call ${point} was never made`);
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
