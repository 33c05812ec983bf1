/** The compiled plugin and the real agent process, together on a node. */
import assert from "node:assert/strict";
import { libc } from "../src/linux/libc.ts";
import { withNetworkNamespace } from "../src/linux/network_namespace.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { takingMilliseconds } from "../src/shim/words.ts";
import { createNamespace, type NamedNamespace, uniqueName } from "./support/topology.ts";
import { ApiServer } from "./support/api_server.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { referenceOf } from "./support/cluster.ts";
import { TestNode } from "./support/node.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import { bridgeResult, callPlugin, newContainerId, type PluginAnswer } from "./support/runtime.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const conflist = JSON.stringify({
  cniVersion: "0.4.0",
  name: "k8s-pod-network",
  plugins: [{ type: "bridge", bridge: "cni0" }],
});

/** A node with an agent that is ready, and a pod namespace. */
class Stage implements AsyncDisposable {
  readonly meshed: PodObject = injectedPod({ name: "meshed", uid: crypto.randomUUID() });
  readonly plain: PodObject = plainPod({ name: "plain", uid: crypto.randomUUID() });
  readonly netns: NamedNamespace = createNamespace(uniqueName("kuma-agent-"));
  node!: TestNode;
  api!: ApiServer;

  static async set(): Promise<Stage> {
    const plugin = await compiledPlugin();
    const stage = new Stage();
    stage.api = await ApiServer.start({ objects: [stage.meshed, stage.plain] });
    stage.node = new TestNode({
      api: stage.api,
      command: [await compiledInstaller()],
      sourceDir: plugin.slice(0, plugin.lastIndexOf("/")),
      env: { HEALTH_PORT: "0" },
    });
    Deno.writeTextFileSync(`${stage.node.netDir}/10-bridge.conflist`, conflist);
    await stage.node.start();
    await stage.node.until(
      "pods are followed",
      () => stage.node.log.includes("Pods of this node are followed"),
    );
    return stage;
  }

  /** Calls the installed plugin as the runtime does, with the entry of the configuration list. */
  async call(
    command: "ADD" | "DEL" | "CHECK",
    pod: PodObject,
    network: Record<string, unknown> = {},
  ): Promise<PluginAnswer> {
    return await callPlugin(`${this.node.binDir}/kuma-cni`, {
      command,
      containerId: newContainerId(),
      netns: this.netns.path,
      pod: referenceOf(pod),
      network: { ...this.node.entry("10-bridge.conflist"), ...network },
      prevResult: bridgeResult(this.netns.path, { ipv4: "10.90.0.3", gateway4: "10.90.0.1" }),
    });
  }

  /** Whether our rules are in the pod's namespace, which loses them by this. */
  takeRules(): boolean {
    return withNetworkNamespace(this.netns.path, () => new NftablesEngine().remove());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.node[Symbol.asyncDispose]();
    await this.api.close();
    this.netns[Symbol.dispose]();
  }
}

Deno.test("the plugin's log lines appear on the agent's stderr, its pod comes from the agent", async () => {
  await using stage = await Stage.set();
  const { node, api } = stage;
  api.requests.length = 0;
  const added = await stage.call("ADD", stage.meshed);
  assert.equal(added.code, 0, added.stdout);
  assert.ok(stage.takeRules(), "the pod must have its rules");
  // The agent answers first, and then writes the lines of a call that it has done itself.
  await node.until("the call is told of", () => /kuma-cni\tPod's traffic/.test(node.log));
  const lines = node.log.split("\n").map((line) => line.split("\t"));
  const line = lines.find(([, , name, message]) =>
    name === "kuma-cni" && message === "Pod's traffic is redirected to its sidecar"
  );
  assert.ok(line, `the line must be on stderr:\n${node.log}`);
  assert.equal(line[1], "INFO");
  const fields = JSON.parse(line[4] ?? "");
  assert.deepEqual([fields.namespace, fields.pod], ["demo", "meshed"]);
  const skipped = await stage.call("ADD", stage.plain);
  assert.equal(skipped.code, 0, skipped.stdout);
  assert.equal(stage.takeRules(), false);
  await node.until("the call is told of", () => /kuma-cni\tPod is skipped/.test(node.log));
  assert.deepEqual(
    api.requests.filter(({ verb }) => verb === "get").map(({ target }) => target),
    [],
    "the agent knew both pods, so nobody needed to ask the API server",
  );
});

Deno.test("ADD survives an expired token on the host and an API outage", async () => {
  await using stage = await Stage.set();
  const { api } = stage;
  // The API server no longer takes the kubeconfig's token, then it is away altogether.
  api.rotateToken();
  const expired = await stage.call("ADD", stage.meshed);
  assert.equal(expired.code, 0, expired.stdout);
  assert.ok(stage.takeRules());
  api.inject({ kind: "hang" });
  api.closeConnections();
  const away = await stage.call("ADD", stage.meshed);
  assert.equal(away.code, 0, away.stdout);
  assert.ok(stage.takeRules());
  assert.ok(away.milliseconds < 1000, `took ${away.milliseconds} ms`);
});

Deno.test("ADD goes on without the agent: stopped, hanging or killed in the middle", async () => {
  await using stage = await Stage.set();
  const { node, api } = stage;
  const logFile = `${node.netDir}/kuma-cni.d/kuma-cni.log`;

  Deno.kill(node.pid, "SIGSTOP");
  const hanging = await stage.call("ADD", stage.meshed);
  Deno.kill(node.pid, "SIGCONT");
  assert.equal(hanging.code, 0, hanging.stdout);
  assert.ok(stage.takeRules());
  // 1 s of the shim, which sees that the call is not read, and less than another one of the plugin.
  const bound = takingMilliseconds + 1500;
  assert.ok(hanging.milliseconds < bound, `took ${hanging.milliseconds} ms, bound ${bound} ms`);
  assert.match(Deno.readTextFileSync(logFile), /Pod's traffic is redirected/);
  assert.equal((Deno.statSync(logFile).mode ?? 0) & 0o777, 0o600);

  // An unknown pod makes the agent ask the API server; it dies while it waits for the answer.
  const late = injectedPod({ name: "late", nodeName: "node-2", uid: crypto.randomUUID() });
  api.store.put(late);
  api.inject({ kind: "delay", milliseconds: 500 }, { verb: "get", times: 1 });
  api.requests.length = 0;
  const calling = stage.call("ADD", late);
  await node.until("the agent asks", () => api.requests.some(({ verb }) => verb === "get"));
  await node.stop("SIGKILL");
  const orphaned = await calling;
  assert.equal(orphaned.code, 0, orphaned.stdout);
  assert.ok(stage.takeRules());

  const alone = await stage.call("ADD", stage.meshed);
  assert.equal(alone.code, 0, alone.stdout);
  assert.ok(stage.takeRules());
  assert.equal((await stage.call("ADD", stage.plain)).code, 0);

  await node.start();
  await node.until("the socket is served", () => node.isServing());
  const before = Deno.statSync(logFile).size;
  assert.equal((await stage.call("ADD", stage.meshed)).code, 0);
  assert.equal(Deno.statSync(logFile).size, before, "the log must go to the agent again");
});

Deno.test("with metrics on, calls and skips are counted and readiness is told", async () => {
  await using stage = await Stage.set();
  const { node } = stage;
  await node.stop();
  // A free port of this machine, given to the agent.
  const port = (() => {
    using probe = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    return (probe.addr as Deno.NetAddr).port;
  })();
  const env = { HEALTH_PORT: String(port), HEALTH_ADDRESS: "127.0.0.1" };
  const plugin = await compiledPlugin();
  await using served = new TestNode({
    api: stage.api,
    command: [await compiledInstaller()],
    sourceDir: plugin.slice(0, plugin.lastIndexOf("/")),
    netDir: node.netDir,
    binDir: node.binDir,
    env,
  });
  await served.start();
  await served.until("the socket is served", () => node.isServing());
  // Until then a call is the plugin's own, and would be counted as that.
  await served.until(
    "the shim is served",
    () => served.log.includes("Calls of the shim are served"),
  );
  assert.equal((await stage.call("ADD", stage.meshed)).code, 0);
  assert.equal((await stage.call("ADD", stage.plain)).code, 0);
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, text: await response.text() };
  };
  assert.equal((await get("/healthz")).status, 200);
  assert.equal((await get("/readyz")).status, 200);
  let text = "";
  await served.until("both calls are counted", async () => {
    text = (await get("/metrics")).text;
    return /^kuma_cni_agent_calls_total\{served="agent"\} 2$/m.test(text);
  });
  assert.match(text, /^kuma_cni_plugin_calls_total\{command="add",result="redirected"\} 1$/m);
  assert.match(text, /^kuma_cni_skipped_pods_total\{reason="no-sidecar"\} 1$/m);
  assert.match(text, /^kuma_cni_ready 1$/m);
});
