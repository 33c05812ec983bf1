/**
 * Pods that started without the plugin get their rules, and nobody else does: on real namespaces,
 * processes and control groups.
 */
import "./support/load_libc.ts";
import assert from "node:assert/strict";
import { placeInCgroups } from "../installer/ledger/cgroup.ts";
import { decideEarly, type EarlyMode } from "../installer/ledger/early_decision.ts";
import { EarlyPods } from "../installer/ledger/early_pods.ts";
import { type EarlyWork, workInProven } from "../installer/ledger/look.ts";
import type { PodEvent } from "../installer/ledger/pod_events.ts";
import { type NodePod, podLifeOf } from "../installer/ledger/pod_life.ts";
import { seeProcess, seeProcesses } from "../installer/ledger/processes.ts";
import { addressDoubt, proveNamespace, type ProvenNamespace } from "../installer/ledger/proof.ts";
import type { LedgerEntry } from "../src/ledger/entry.ts";
import { decideForPod } from "../src/pod/decide.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { namespaceState } from "./support/namespace_state.ts";
import { PodNode, type RunningPod } from "./support/running_pod.ts";
import { newContainerId } from "./support/runtime.ts";

const setting = { setting: "nftables", config: defaultRedirectConfig } as const;
const own = new Set([seeProcess(Deno.pid)!.namespace!]);

function prove(pod: NodePod, pods: readonly NodePod[] = [pod]) {
  return proveNamespace(pod, pods, seeProcesses(), own);
}

function proven(pod: NodePod): ProvenNamespace {
  const proof = prove(pod);
  assert.ok(!("doubt" in proof), JSON.stringify(proof));
  return proof;
}

function doubtOf(proof: ReturnType<typeof prove> | EarlyWork): string {
  return "doubt" in proof ? proof.doubt : `no doubt: ${JSON.stringify(proof)}`;
}

/** Nothing that is done meanwhile may change any of the namespaces. */
async function untouched(pods: readonly RunningPod[], work: () => unknown): Promise<void> {
  const states = () => pods.map(({ namespace }) => namespace.run(namespaceState));
  const before = states();
  await work();
  assert.deepEqual(states(), before);
}

Deno.test("A proven pod gets its rules, once, and its neighbour none", async () => {
  await using node = new PodNode();
  const pod = await node.pod("10.99.0.1");
  const neighbour = await node.pod("10.99.0.2");
  await untouched([neighbour], () => {
    const proof = proven(pod.object());
    assert.equal(proof.sandbox, pod.sandbox);
    assert.equal(proof.holder.pid, pod.holder);
    const ips = [pod.address];
    assert.equal(workInProven(proof, ips, setting, false).kind, "missing");
    assert.equal(workInProven(proof, ips, setting, true).kind, "repaired");
    const found = workInProven(proof, ips, setting, true);
    assert.equal(found.kind, "found");
  });
});

Deno.test("Two pods with swapped addresses: neither namespace is touched", async () => {
  await using node = new PodNode();
  const [one, two] = [await node.pod("10.99.1.1"), await node.pod("10.99.1.2")];
  const swapped = [one.object({ ips: [two.address] }), two.object({ ips: [one.address] })];
  await untouched([one, two], () => {
    for (const pod of swapped) {
      const proof = proven(pod);
      assert.match(
        doubtOf(workInProven(proof, pod.life.ips, setting, true)),
        /does not have the pod's address/,
      );
    }
  });
});

Deno.test("Two pods with one address prove nothing", async () => {
  await using node = new PodNode();
  const [one, two] = [await node.pod("10.99.2.1"), await node.pod("10.99.2.1")];
  const pods = [one.object(), two.object()];
  for (const pod of pods) assert.match(doubtOf(prove(pod, pods)), /has the same address/);
  const ended = [one.object(), two.object({ isAlive: false })];
  assert.ok(
    !("doubt" in prove(ended[0]!, ended)),
    "a pod that has ended has given its address back",
  );
});

Deno.test("A process of another pod, or of none, inside of the namespace is a doubt", async () => {
  await using node = new PodNode();
  const [one, two] = [await node.pod("10.99.3.1"), await node.pod("10.99.3.2")];
  const visitor = await node.process(
    one.namespace,
    `${two.group}/cri-containerd-${newContainerId()}.scope`,
  );
  await untouched([one, two], () => {
    assert.match(doubtOf(prove(one.object())), new RegExp(`process ${visitor}, which is not`));
    assert.match(doubtOf(prove(two.object())), /in 2 network namespaces/);
  });
  await node.end(visitor);
  proven(one.object());
  const stray = await node.process(one.namespace);
  assert.match(doubtOf(prove(one.object())), new RegExp(`process ${stray}, which is not`));
});

Deno.test("A container that names its own groups like another pod's proves nothing", async () => {
  await using node = new PodNode();
  const [one, two] = [await node.pod("10.99.4.1"), await node.pod("10.99.4.2")];
  const inside =
    `${one.group}/cri-containerd-${one.container}.scope/${two.group}/${newContainerId()}`;
  // Version 2 forbids processes beside child groups only where controllers are on; here none are.
  await node.process(one.namespace, inside);
  await untouched([one, two], () => {
    assert.match(doubtOf(prove(one.object())), /which is not the pod's/);
    assert.equal(proven(two.object()).holder.pid, two.holder);
  });
});

Deno.test("A pod that dies between the proof and the work is not touched, nor who gets its number", async () => {
  await using node = new PodNode();
  const [one, two] = [await node.pod("10.99.5.1"), await node.pod("10.99.5.2")];
  const proof = proven(one.object());
  const ips = [one.address];
  await untouched([one, two], async () => {
    const reused = { ...proof.holder, start: "1" };
    assert.match(
      doubtOf(workInProven(proof, ips, setting, true, () => reused)),
      /has changed meanwhile/,
    );
    // Its number now belongs to the other pod's sandbox.
    const taken = { ...proof, holder: { ...proof.holder, pid: two.holder } };
    assert.match(doubtOf(workInProven(taken, ips, setting, true)), /has changed meanwhile/);
    await node.end(one.holder);
    assert.match(doubtOf(workInProven(proof, ips, setting, true)), /has ended/);
    assert.match(doubtOf(prove(one.object())), /no process of its own/);
  });
});

Deno.test("Two sandboxes of one pod, no sandbox, no address, the node's namespace: each a doubt", async () => {
  await using node = new PodNode();
  const pod = await node.pod("10.99.6.1");
  const { container, sandbox } = pod;
  assert.match(
    doubtOf(prove(pod.object({ containerIds: [] }))),
    /2 containers could be its sandbox/,
  );
  assert.match(
    doubtOf(prove(pod.object({ containerIds: [container, sandbox] }))),
    /CRI-O leaves it out/,
  );
  assert.match(doubtOf(prove(pod.object({ ips: [] }))), /no address/);
  const other = pod.object();
  const stranger = { ...other, pod: { ...other.pod, uid: crypto.randomUUID() } };
  assert.match(doubtOf(prove(stranger)), /no process of it is seen/);
  // An annotation is its author's word: it must not lend another pod's identity.
  const liar: NodePod = {
    ...stranger,
    pod: { ...stranger.pod, annotations: { "kubernetes.io/config.hash": pod.uid } },
  };
  assert.match(doubtOf(prove(liar)), /no process of it is seen/);
  const inNode = new Set([proven(other).namespace]);
  assert.match(
    doubtOf(proveNamespace(other, [other], seeProcesses(), inNode)),
    /the node's network namespace/,
  );
  assert.match(doubtOf(proveNamespace(other, [other], seeProcesses(), undefined)), /AppArmor/);
  const hidden = seeProcesses().map(({ namespace: _, ...rest }) => rest);
  assert.match(doubtOf(proveNamespace(other, [other], hidden, own)), /CAP_SYS_PTRACE/);
});

const uid = "0f8fad5b-d9cb-469f-a165-70867728950e";
const id = "a".repeat(64);
const systemd = `kubepods-burstable-pod${uid.replaceAll("-", "_")}.slice`;

Deno.test("Control groups of both drivers, versions and views name the pod and the container", () => {
  const container = { kind: "container", podUid: uid, container: id };
  for (
    const path of [
      `/kubepods/burstable/pod${uid}/${id}`,
      `/kubepods.slice/kubepods-burstable.slice/${systemd}/cri-containerd-${id}.scope`,
      `/../../${systemd}/crio-${id}.scope`,
      `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${
        uid.replaceAll("-", "_")
      }.slice/cri-containerd-${id}.scope`,
      `/kubepods/burstable/pod${uid}/${id}/child`,
    ]
  ) {
    assert.deepEqual(placeInCgroups(`0::${path}\n`), container, path);
    assert.deepEqual(
      placeInCgroups(`11:pids:${path}\n1:name=systemd:${path}\n0::/\n`),
      container,
    );
  }
  const helper = { kind: "pod", podUid: uid };
  assert.deepEqual(placeInCgroups(`0::/${systemd}/crio-conmon-${id}.scope`), helper);
  for (
    const none of ["", "0::/", "0::/system.slice/containerd.service", "0::/kubepods/burstable"]
  ) {
    assert.deepEqual(placeInCgroups(none), { kind: "none" }, none);
  }
  const other = uid.replace("0f", "1f");
  for (
    const doubt of [
      `0::/kubepods/pod${uid}/${id}/kubepods/pod${other}/${id}`,
      `2:pids:/kubepods/pod${uid}/${id}\n1:cpu:/kubepods/pod${other}/${id}`,
      `2:pids:/kubepods/pod${uid}/${id}\n1:cpu:/kubepods/pod${uid}/${"b".repeat(64)}`,
    ]
  ) assert.deepEqual(placeInCgroups(doubt), { kind: "doubt" }, doubt);
});

Deno.test("Addresses count in any form, and all of them", () => {
  assert.equal(
    addressDoubt(["10.0.0.1", "fd00::0:1"], ["fd00::1", "10.0.0.1", "fe80::1"]),
    undefined,
  );
  assert.match(addressDoubt(["10.0.0.1", "fd00::2"], ["10.0.0.1"]) ?? "", /fd00::2/);
  assert.ok(addressDoubt([], ["10.0.0.1"]) !== undefined, "none proves nothing");
});

Deno.test("What kubelet reports decides, and what it does not report is waited for", async () => {
  await using node = new PodNode();
  const pod = await node.pod("10.99.7.1");
  const meshed = decideForPod(pod.object().pod, { allowPodSettings: new Set(), resolvers: [] });
  const skipped = { kind: "skip", code: "no-sidecar", reason: "" } as const;
  const step = (life: Parameters<RunningPod["object"]>[0], mode: EarlyMode, seenFor = 1000) =>
    decideEarly(pod.object(life), meshed, mode, seenFor);
  assert.equal(step({}, "waiting"), "repair");
  assert.equal(step({ isServing: true }, "waiting"), "look", "its connections would break");
  assert.equal(step({ isServing: true }, "always"), "repair");
  assert.equal(step({}, "off"), "nothing");
  assert.equal(step({ hostNetwork: true }, "always"), "nothing");
  assert.equal(step({ isAlive: false }, "always"), "nothing");
  assert.equal(step({ hasStarted: false }, "always"), "wait", "ADD may be running");
  assert.equal(step({ ips: [] }, "always"), "wait");
  assert.equal(step({}, "always", 10), "wait", "the report may be on its way");
  assert.equal(decideEarly(pod.object(), skipped, "always", 1000), "nothing");
});

/** A search on a test's node and clock. */
function search(mode: EarlyMode, pods: () => readonly NodePod[]) {
  const entries: LedgerEntry[] = [];
  const told: PodEvent[] = [];
  const results: string[] = [];
  let time = 0;
  const early = new EarlyPods({
    mode,
    ledger: {
      read: () => ({ entries, unreadable: [] }),
      put: (entry) => void entries.push(entry),
    },
    log: { info: () => {}, warn: () => {} },
    pods,
    decide: ({ pod }) => decideForPod(pod, { allowPodSettings: new Set(), resolvers: [] }),
    processes: () => seeProcesses(),
    hasResult: () => undefined,
    hasNamespace: () => undefined,
    ownNamespaces: () => own,
    work: (proof, { life }, { config }, repair) =>
      workInProven(proof, life.ips, { setting: "auto", config }, repair),
    counted: (result) => void results.push(result),
    tell: (_, event) => void told.push(event),
    clock: () => time,
  });
  const run = (milliseconds: number) => {
    for (const end = time + milliseconds; time < end; time += 50) early.tick();
  };
  return { run, entries, told, results };
}

Deno.test("A pod that waits is repaired within a second, and its owner hears of it", async () => {
  await using node = new PodNode();
  const pod = await node.pod("10.99.8.1");
  let object = pod.object({ hasStarted: false });
  const { run, entries, told, results } = search("waiting", () => [object]);
  run(1000);
  assert.deepEqual(results, []);
  object = pod.object();
  run(1000);
  assert.deepEqual(results, ["repaired"]);
  assert.match(told[0]!.message, /^Pod started without its rules and was repaired in 3\d\d ms$/);
  assert.equal(entries[0]!.sandbox, pod.sandbox);
  run(120_000);
  assert.deepEqual(results, ["repaired"], "the ledger knows it now");
});

Deno.test("A serving pod is only reported, once; a lost report is found and not repaired", async () => {
  await using node = new PodNode();
  const serving = await node.pod("10.99.9.1");
  const lost = await node.pod("10.99.9.2");
  const config = decideForPod(lost.object().pod, { allowPodSettings: new Set(), resolvers: [] });
  assert.ok(config.kind === "redirect");
  workInProven(proven(lost.object()), [lost.address], { setting: "auto", ...config }, true);
  await untouched([serving, lost], () => {
    const pods = [serving.object({ isServing: true }), lost.object()];
    const { run, entries, told, results } = search("waiting", () => pods);
    run(10_000);
    assert.deepEqual([...new Set(results)].sort(), ["found", "missing"]);
    assert.equal(entries.length, 1);
    assert.equal(entries[0]!.outcome.result === "redirected" && entries[0]!.outcome.by, "adoption");
    assert.deepEqual(told.map(({ reason }) => reason), ["NotCaptured"]);
  });
});

Deno.test("Whatever a pod's status holds, its life is read", () => {
  const status = {
    phase: "Running",
    podIPs: [{ ip: "10.0.0.1" }, { ip: 7 }, null],
    initContainerStatuses: [{
      name: "kuma-validation",
      containerID: `containerd://${id}`,
      state: { running: {} },
    }],
    containerStatuses: [{ name: "kuma-sidecar", ready: false, state: { waiting: {} } }],
  };
  const life = podLifeOf({ spec: {}, status });
  assert.deepEqual(life.ips, ["10.0.0.1"]);
  assert.deepEqual(life.containerIds, [id]);
  assert.deepEqual([life.hasStarted, life.isServing, life.isAlive], [true, false, true]);
  for (const odd of [null, 3, [], { status: [] }, { status: { containerStatuses: "x" } }]) {
    assert.equal(podLifeOf(odd).hasStarted, false);
  }
});
