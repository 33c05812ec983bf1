/** The plugin behind thin Multus, which hands on the runtime's arguments after its own. */
import assert from "node:assert/strict";
import { createNamespace, uniqueName } from "./support/topology.ts";
import { ApiServer } from "./support/api_server.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { listRuleset } from "./support/nft.ts";
import { injectedPod, plainPod } from "./support/pods.ts";
import { bridgeResult, callPlugin, multusArgs, newContainerId } from "./support/runtime.ts";

const plugin = await compiledPlugin();

/** Chained in the primary network's list, and as a network of its own by the pod's annotation. */
const ways = [
  { name: "chained", network: "k8s-pod-network", interfaceName: "eth0", chained: true },
  { name: "standalone", network: "kuma-cni", interfaceName: "net1", chained: false },
];

for (const way of ways) {
  Deno.test(`Pods start behind thin Multus with its doubled CNI_ARGS, ${way.name}`, async () => {
    const pods = [plainPod({ namespace: "kube-system" }), injectedPod()];
    await using api = await ApiServer.start({ objects: pods });
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
    try {
      await api.writeKubeconfig(`${folder}/kubeconfig`);
      for (const { metadata } of pods) {
        using namespace = createNamespace(uniqueName("kuma-multus-"));
        const containerId = newContainerId();
        const pod = {
          namespace: metadata.namespace!,
          name: metadata.name,
          uid: metadata.uid!,
        };
        for (const command of ["ADD", "CHECK", "DEL"] as const) {
          const { code, stdout } = await callPlugin(plugin, {
            command,
            containerId,
            netns: namespace.path,
            interfaceName: way.interfaceName,
            pod,
            args: multusArgs(containerId, pod),
            network: {
              cniVersion: "0.4.0",
              name: way.network,
              type: "kuma-cni",
              engine: "nftables",
              kubernetes: { kubeconfig: `${folder}/kubeconfig` },
            },
            ...(way.chained
              ? {
                prevResult: bridgeResult(namespace.path, {
                  ipv4: "10.1.0.2",
                  gateway4: "10.1.0.1",
                }),
              }
              : {}),
          });
          assert.equal(code, 0, `${command} of ${pod.name}: ${stdout}`);
          const meshed = pod.namespace === "demo";
          assert.equal(listRuleset(namespace).includes("kuma_mesh"), meshed, pod.name);
        }
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
