/** The ledger between the compiled plugin and the real agent process, and what the agent does with it. */
import "./support/load_libc.ts";
import assert from "node:assert/strict";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import type { LedgerEntry } from "../src/ledger/entry.ts";
import { readEntries } from "../src/ledger/folder.ts";
import { isSameIdentity, networkNamespaceIdentity } from "../src/linux/namespace_identity.ts";
import { readInstalled } from "../src/engine/ebpf/installed.ts";
import { detachFromCgroup } from "../src/linux/bpf.ts";
import { openForReading } from "../src/linux/libc.ts";
import { ApiServer } from "./support/api_server.ts";
import { referenceOf } from "./support/cluster.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { makeKubeletCgroup } from "./support/kubelet_cgroup.ts";
import { TestNode } from "./support/node.ts";
import { runAsFirstProcess } from "./support/own_processes.ts";
import { BpfFileSystem, unifiedCgroups } from "./support/pod_cgroup.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import { bridgeResult, callPlugin, newContainerId } from "./support/runtime.ts";
import { createNamespace, uniqueName } from "./support/topology.ts";

const conflist = JSON.stringify({
  cniVersion: "1.1.0",
  name: "k8s-pod-network",
  plugins: [{ type: "bridge", bridge: "cni0" }],
});

Deno.test("each call's report is in the ledger, with or without the agent, until DEL; drift is put back", async () => {
  const meshed = injectedPod({ name: "meshed", uid: crypto.randomUUID() });
  const plain = plainPod({ name: "plain", uid: crypto.randomUUID() });
  const plugin = await compiledPlugin();
  const api = await ApiServer.start({ objects: [meshed, plain] });
  await using _closing = { [Symbol.asyncDispose]: () => api.close() };
  using netns = createNamespace(uniqueName("kuma-ledger-"));
  const root = await Deno.makeTempDir({ prefix: "kuma-ledger-root-" });
  await using _root = { [Symbol.asyncDispose]: () => Deno.remove(root, { recursive: true }) };
  // Of the host the agent sees the folder of network namespaces alone.
  await Deno.mkdir(`${root}/run`);
  await Deno.symlink("/run/netns", `${root}/run/netns`);
  await using node = new TestNode({
    api,
    command: [await compiledInstaller()],
    sourceDir: plugin.slice(0, plugin.lastIndexOf("/")),
    env: { HEALTH_PORT: "0", MOUNTED_HOST_ROOT: root, REPAIR: "repair", SWEEP_INTERVAL: "1" },
  });
  await Deno.writeTextFile(`${node.netDir}/10-bridge.conflist`, conflist);
  await node.start();
  await node.until("pods are followed", () => node.log.includes("Pods of this node are followed"));
  const call = async (command: "ADD" | "DEL", pod: PodObject, containerId: string) => {
    const answer = await callPlugin(`${node.binDir}/kuma-cni`, {
      command,
      containerId,
      netns: netns.path,
      pod: referenceOf(pod),
      network: node.entry("10-bridge.conflist"),
      prevResult: bridgeResult(netns.path, { ipv4: "10.90.0.3", gateway4: "10.90.0.1" }),
    });
    assert.equal(answer.code, 0, answer.stdout);
  };
  const entries = (): readonly LedgerEntry[] => readEntries(`${node.netDir}/kuma-cni.d`).entries;

  const [first, second, third] = [newContainerId(), newContainerId(), newContainerId()];
  await call("ADD", meshed, first);
  await node.until("the agent has written it", () => entries().length === 1);
  const [entry] = entries();
  assert.equal(entry!.sandbox, first);
  assert.equal(entry!.podUid, meshed.metadata.uid);
  assert.ok(entry!.outcome.result === "redirected");
  assert.equal(entry!.outcome.engine, "nftables");
  assert.ok(isSameIdentity(entry!.outcome.namespace, netns.run(networkNamespaceIdentity)));

  netns.run(() => new NftablesEngine().remove());
  await node.until("drift is put back", () => node.log.includes("Rules were put back"));
  assert.ok(netns.run(() => new NftablesEngine().remove()), "the rules are there again");
  await node.until(
    "its owner hears of it",
    () => api.requests.some(({ target }) => target.includes("/namespaces/demo/events")),
  );

  await call("ADD", plain, second);
  await node.until("a skipped pod is known, too", () => entries().length === 2);
  await node.stop("SIGKILL");
  await call("ADD", meshed, third);
  assert.deepEqual(
    entries().map(({ sandbox }) => sandbox).sort(),
    [first, second, third].sort(),
    "the plugin has written it itself",
  );
  for (const sandbox of [first, second, third]) await call("DEL", meshed, sandbox);
  assert.deepEqual(entries(), []);
});

const options = { sanitizeResources: false }; // Engines load libraries when they first need them.

Deno.test(
  "programs that were detached from a pod are put back by the agent, which sees cgroups read-only",
  options,
  async () => {
    await using stack = new AsyncDisposableStack();
    const bpffs = stack.use(new BpfFileSystem());
    const kubelet = stack.use(makeKubeletCgroup());
    const pod = injectedPod({ name: "programmed", uid: kubelet.uid });
    const plugin = await compiledPlugin();
    const api = await ApiServer.start({ objects: [pod] });
    stack.defer(() => api.close());
    const netns = stack.use(createNamespace(uniqueName("kuma-ledger-")));
    const root = await Deno.makeTempDir({ prefix: "kuma-ledger-root-" });
    stack.defer(() => Deno.remove(root, { recursive: true }));
    await Deno.mkdir(`${root}/run`);
    await Deno.symlink("/run/netns", `${root}/run/netns`);
    const cgroups = unifiedCgroups();
    await Deno.mkdir(`${root}${cgroups}`, { recursive: true });
    // As the DaemonSet mounts them, in mounts of the agent's own.
    const script = `mount --bind ${cgroups} ${root}${cgroups} && ` +
      `mount -o remount,bind,ro ${root}${cgroups} && exec "$@"`;
    const node = stack.use(
      new TestNode({
        api,
        command: ["unshare", "-m", "sh", "-c", script, "sh", await compiledInstaller()],
        sourceDir: plugin.slice(0, plugin.lastIndexOf("/")),
        network: { engine: "ebpf", ebpf: { bpffs_path: bpffs.path, cgroup_path: kubelet.root } },
        env: {
          HEALTH_PORT: "0",
          MOUNTED_HOST_ROOT: root,
          MOUNTED_BPFFS: bpffs.path,
          REPAIR: "repair",
          SWEEP_INTERVAL: "1",
        },
      }),
    );
    await Deno.writeTextFile(`${node.netDir}/10-bridge.conflist`, conflist);
    await node.start();
    const { code, stdout } = await callPlugin(`${node.binDir}/kuma-cni`, {
      command: "ADD",
      containerId: newContainerId(),
      netns: netns.path,
      pod: referenceOf(pod),
      network: node.entry("10-bridge.conflist"),
      prevResult: bridgeResult(netns.path, { ipv4: "10.90.0.3", gateway4: "10.90.0.1" }),
    });
    assert.equal(code, 0, stdout);
    const programs = () => {
      using folder = openForReading(kubelet.pod.path);
      using installed = readInstalled(folder);
      return installed.all.map(({ hook, info }) => `${hook.name} ${info.tag}`);
    };
    const right = programs();
    assert.ok(right.length > 5, right.join());
    {
      using folder = openForReading(kubelet.pod.path);
      using installed = readInstalled(folder);
      const { hook, program } = installed.all[0]!;
      detachFromCgroup(folder, program, hook.attachType);
    }
    await node.until("drift is put back", () => node.log.includes("Rules were put back: missing"));
    assert.deepEqual(programs(), right);
    await node.until(
      "its owner hears of it",
      () => api.requests.some(({ target }) => target.includes("/namespaces/demo/events")),
    );
  },
);

Deno.test("a pod that started before the plugin is repaired while it waits, a serving one is not", async () => {
  await compiledPlugin();
  await compiledInstaller();
  // The proof wants to see the node's first process: here it is the script.
  const told = await runAsFirstProcess(new URL("support/early_race.ts", import.meta.url));
  assert.match(told, /Repaired \d+ ms after kubelet's report/);
});
