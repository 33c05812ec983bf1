/** A node of many pods that its agent follows. */
import type { ApiServer } from "../../../tests/support/api_server.ts";
import { TestNode } from "../../../tests/support/node.ts";
import { injectedPod, plainPod, type PodObject } from "../../../tests/support/pods.ts";
import type { Built } from "../../build.ts";

/** How many pods the node has. */
export const podCount = 250;
/** What a pod of a real cluster has beyond what the tests' pods have, in bytes of JSON. */
const padBytes = 6000;

/** Name of the primary plugin's list in the node's net dir. */
export const conflistName = "10-bridge.conflist";

/** The node's pods, every other one meshed, from the first on. */
export function manyPods(): PodObject[] {
  return Array.from({ length: podCount }, (_, i) => {
    const options = { name: `pod-${i}`, padBytes };
    return i % 2 === 0 ? injectedPod(options) : plainPod(options);
  });
}

/** Starts install-cni on a node and waits until it knows all pods. */
export async function startNode(
  api: ApiServer,
  [plugin, installer]: readonly Built[],
): Promise<TestNode> {
  await using cleanup = new AsyncDisposableStack();
  const node = cleanup.use(
    new TestNode({
      api,
      command: [installer!.path],
      sourceDir: plugin!.path.slice(0, plugin!.path.lastIndexOf("/")),
      env: { CNI_LOG_LEVEL: "info" },
    }),
  );
  Deno.writeTextFileSync(
    `${node.netDir}/${conflistName}`,
    JSON.stringify({ cniVersion: "0.4.0", name: "net", plugins: [{ type: "bridge" }] }),
  );
  await node.start();
  await node.until("pods are followed", () => node.log.includes(`{"pods":${podCount}}`));
  cleanup.move();
  return node;
}
