/**
 * A pod that starts before the plugin is there, with kubelet played and the agent real; run in process
 * IDs of its own, where the first process can be seen. Prints what came of it.
 */
import assert from "node:assert/strict";
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import { readEntries } from "../../src/ledger/folder.ts";
import { ApiServer } from "./api_server.ts";
import { compiledInstaller, compiledPlugin } from "./compiled.ts";
import { TestNode } from "./node.ts";
import { injectedPod } from "./pods.ts";
import { reportedPod } from "./reported_pod.ts";
import { PodNode, type RunningPod } from "./running_pod.ts";

const plugin = await compiledPlugin();
const pods = new PodNode();
const waiting = await pods.pod("10.99.20.1");
const serving = await pods.pod("10.99.20.2");
const objects = {
  waiting: injectedPod({ name: "waiting", uid: waiting.uid, nodeName: "node-1" }),
  serving: injectedPod({ name: "serving", uid: serving.uid, nodeName: "node-1" }),
};
const api = await ApiServer.start({ objects: [objects.waiting, objects.serving] });
const node = new TestNode({
  api,
  command: [await compiledInstaller()],
  sourceDir: plugin.slice(0, plugin.lastIndexOf("/")),
  env: { HEALTH_PORT: "0", REPAIR_EARLY_PODS: "waiting", SWEEP_INTERVAL: "0" },
});
try {
  await Deno.writeTextFile(
    `${node.netDir}/10-bridge.conflist`,
    JSON.stringify({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "bridge" }] }),
  );
  await node.start();
  await node.until("pods are followed", () => node.log.includes("Pods of this node are followed"));
  const lifeOf = ({ address, container }: RunningPod) => ({ ips: [address], container });
  api.store.put(reportedPod(objects.serving, { ...lifeOf(serving), isServing: true }));
  api.store.put(reportedPod(objects.waiting, { ...lifeOf(waiting), isServing: false }));
  const started = performance.now();
  await node.until("the pod is repaired", () => node.log.includes("was repaired in"));
  const milliseconds = performance.now() - started;
  // kuma-validation tries for ten seconds before the pod's first failure.
  assert.ok(milliseconds < 10_000, `took ${milliseconds} ms`);
  assert.ok(waiting.namespace.run(() => new NftablesEngine().remove()), "it has its rules");
  assert.equal(serving.namespace.run(() => new NftablesEngine().remove()), false);
  await node.until("the serving one is reported", () => node.log.includes("serves already"));
  const entries = readEntries(`${node.netDir}/kuma-cni.d`).entries;
  assert.deepEqual(entries.map(({ podName, sandbox }) => [podName, sandbox]), [
    ["waiting", waiting.sandbox],
  ]);
  await node.until(
    "their owners hear of it",
    () => api.requests.filter(({ target }) => target.includes("/demo/events")).length === 2,
  );
  console.log(`Repaired ${Math.round(milliseconds)} ms after kubelet's report`);
} catch (error) {
  console.error(node.log);
  throw error;
} finally {
  await node[Symbol.asyncDispose]();
  await api.close();
  await pods[Symbol.asyncDispose]();
}
// The first process of its IDs: what ends as its orphan would keep it.
Deno.exit(0);
