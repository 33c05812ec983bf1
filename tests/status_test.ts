/**
 * STATUS under a runtime that asks every 5 s and makes the node NotReady on a failure, as containerd
 * 2.1 does for lists of version 1.1.0: code 50 stands for what can never work, and for nothing else.
 */
import assert from "node:assert/strict";
import { createNamespace, uniqueName } from "./support/topology.ts";
import { ApiServer } from "./support/api_server.ts";
import { pluginOfRuntime } from "./support/compiled.ts";
import { injectedPod } from "./support/pods.ts";
import { callPlugin, newContainerId, type PluginAnswer } from "./support/runtime.ts";

const plugin = await pluginOfRuntime();

interface Scene {
  readonly api: ApiServer;
  /** The folder of network configurations, with the kubeconfig. */
  readonly folder: string;
  readonly network: Record<string, unknown>;
}

/** What is in trouble, and what CHECK of a meshed pod says meanwhile; that is where it shows. */
const troubles: Record<string, { arrange(scene: Scene): unknown; check: number }> = {
  "nothing": { arrange: () => {}, check: 102 },
  "the node agent is down": {
    arrange: ({ network, folder }) => network.agent = { socket: `${folder}/agent.sock` },
    check: 102,
  },
  "the node agent does not answer": {
    arrange: ({ network, folder }) => {
      const path = `${folder}/agent.sock`;
      network.agent = { socket: path };
      return Deno.listen({ transport: "unix", path });
    },
    check: 102,
  },
  "the API server is down": { arrange: ({ api }) => api.close(), check: 11 },
  "the API server hangs": { arrange: ({ api }) => api.inject({ kind: "hang" }), check: 11 },
  "the API server answers 503": {
    arrange: ({ api }) => api.inject({ kind: "status", code: 503 }),
    check: 11,
  },
  "the token has expired": { arrange: ({ api }) => api.rotateToken(), check: 11 },
  "the right is missing": { arrange: ({ api }) => api.forbid("get", "pods"), check: 100 },
  "the kubeconfig is missing for a moment": {
    arrange: ({ folder }) => Deno.removeSync(`${folder}/kubeconfig`),
    check: 100,
  },
  "the kubeconfig is half written": {
    arrange: ({ folder }) => Deno.writeTextFileSync(`${folder}/kubeconfig`, "apiVersion: v1\nki"),
    check: 100,
  },
  "the folder of configurations is gone while it is rewritten": {
    arrange: ({ folder }) => Deno.removeSync(folder, { recursive: true }),
    check: 100,
  },
  "the folder of configurations has files of others": {
    arrange: ({ folder }) => Deno.writeTextFileSync(`${folder}/05-other.conflist`, "{"),
    check: 102,
  },
};

async function call(
  command: "STATUS" | "CHECK",
  network: Record<string, unknown>,
  netns: string,
  uid: string,
): Promise<PluginAnswer & { readonly error?: number }> {
  const answer = await callPlugin(plugin, {
    command,
    containerId: newContainerId(),
    netns,
    pod: { namespace: "demo", name: "app-1", uid },
    network,
  });
  return answer.code === 0 ? answer : { ...answer, error: JSON.parse(answer.stdout).code };
}

for (const [name, trouble] of Object.entries(troubles)) {
  Deno.test(`STATUS succeeds at once when in trouble is: ${name}`, async () => {
    const pod = injectedPod();
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
    const api = await ApiServer.start({ objects: [pod] });
    using namespace = createNamespace(uniqueName("kuma-status-"));
    let disposable: unknown;
    try {
      await api.writeKubeconfig(`${folder}/kubeconfig`);
      const network = {
        cniVersion: "1.1.0",
        name: "bed",
        type: "kuma-cni",
        lookup_timeout_seconds: 1,
        kubernetes: { kubeconfig: `${folder}/kubeconfig` },
      };
      disposable = await trouble.arrange({ api, folder, network });
      const status = await call("STATUS", network, namespace.path, pod.metadata.uid!);
      assert.deepEqual([status.code, status.stdout], [0, ""]);
      assert.ok(status.milliseconds < 2000, `${status.milliseconds} ms`);
      const check = await call("CHECK", network, namespace.path, pod.metadata.uid!);
      assert.equal(check.error, trouble.check, check.stdout);
    } finally {
      if (disposable instanceof Object && "close" in disposable) {
        (disposable as Deno.Listener).close();
      }
      await api.close();
      await Deno.remove(folder, { recursive: true }).catch(() => {});
    }
  });
}

Deno.test("STATUS answers 50 for settings with which no ADD can succeed", async () => {
  const hopeless: Record<string, unknown>[] = [
    { log_level: "warn" },
    { engine: "nft" },
    { kubernetes: { kubeconfig: "kubeconfig" } },
    { kubernetes: { exclude_namespaces: "kube-system" } },
    { kubernetes: { cluster_dns: ["dns"] } },
    { lookup_timeout_seconds: 0 },
    { agent: { socket: 5 } },
  ];
  for (const more of hopeless) {
    const network = { cniVersion: "1.1.0", name: "bed", type: "kuma-cni", ...more };
    const { error, stdout } = await call("STATUS", network, "/x", "uid");
    assert.equal(error, 50, stdout);
    assert.match(stdout, /CNI_NETWORK_CONFIG of install-cni/);
  }
});
