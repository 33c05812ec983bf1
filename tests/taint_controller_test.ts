/** The taint controller against the API server stand-in: end states, and the writes that they take. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { removeTaints } from "../installer/controller/remove_taints.ts";
import { manifestObjects } from "../installer/manifests/objects.ts";
import { resolveValues } from "../installer/manifests/values.ts";
import { takeLease } from "../src/kubernetes/lease.ts";
import {
  attachment,
  attachmentDefinition,
  cniPod,
  ControllerBed,
  daemonSet,
  namespace,
  node,
  pause,
  referenceTaint,
  until,
} from "./support/controller_bed.ts";
import type { KubernetesObject } from "./support/pods.ts";

/** Nodes, each with a CNI pod that is ready. */
function readyNodes(...names: string[]): KubernetesObject[] {
  return names.flatMap((name) => [node(name), cniPod(name, "ready")]);
}

Deno.test("a new node is tainted until its CNI pod is ready, in two writes and with Events", async () => {
  await using bed = await ControllerBed.start({ objects: [daemonSet()] });
  await bed.leader();
  const { store } = bed.server;
  store.put(
    node("n1", { ageSeconds: 0, taints: [{ key: "gpu", effect: "NoSchedule", value: "a" }] }),
  );
  await until(() => bed.isTainted("n1"), "n1 is tainted");
  const tainted = store.get("nodes", undefined, "n1");
  deepEqual((tainted.spec as { taints: unknown }).taints, [
    { key: "gpu", effect: "NoSchedule", value: "a" },
    { key: "NodeReadiness", effect: "NoSchedule" },
  ]);
  ok(Date.parse(tainted.metadata.annotations!["kuma.io/cni-tainted-at"]!) > Date.now() - 60_000);
  store.put(cniPod("n1", "pending"));
  store.put(cniPod("n1", "starting"));
  await pause(200);
  store.put(cniPod("n1", "ready"));
  await until(() => !bed.isTainted("n1"), "n1 is free");
  await until(() => bed.events("n1").length === 2, "two Events");
  const after = store.get("nodes", undefined, "n1");
  deepEqual((after.spec as { taints: unknown[] }).taints.length, 1);
  deepEqual(after.metadata.annotations, { "node.alpha.kubernetes.io/ttl": "0" });
  const [first, second] = bed.events("n1");
  match(
    [first, second].join(),
    /CniNotReady: Pods are kept off this node by the taint NodeReadiness:NoSchedule/,
  );
  match([first, second].join(), /CniReady: Taint NodeReadiness:NoSchedule is removed after \d+ s/);
  equal(bed.nodeWrites.length, 2);
});

Deno.test("a node without taints and annotations gets and loses the taint", async () => {
  await using bed = await ControllerBed.start({ objects: [daemonSet()] });
  await bed.leader();
  bed.server.store.put(node("n1", { ageSeconds: 0, annotations: null }));
  await until(() => bed.isTainted("n1"), "n1 is tainted");
  bed.server.store.put(cniPod("n1", "ready"));
  await until(() => !bed.isTainted("n1"), "n1 is free");
  equal(bed.nodeWrites.length, 2);
});

Deno.test("a born-tainted node is only ever untainted", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), node("n1", { tainted: true, ageSeconds: 0 })],
  });
  await bed.leader();
  bed.server.store.put(cniPod("n1", "starting"));
  await pause(200);
  equal(bed.nodeWrites.length, 0);
  bed.server.store.put(cniPod("n1", "ready"));
  await until(() => !bed.isTainted("n1"), "n1 is free");
  equal(bed.nodeWrites.length, 1);
});

Deno.test("a rollout of the whole DaemonSet within the grace writes nothing", async () => {
  const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), ...readyNodes(...names)],
    settings: { taintGrace: 30 },
  });
  await bed.leader();
  for (const name of names) {
    bed.server.store.delete("pods", "kube-system", `cni-${name}`);
    bed.server.store.put(cniPod(name, "starting", `new-${name}`));
    await pause(10);
    bed.server.store.put(cniPod(name, "ready", `new-${name}`));
  }
  await pause(500);
  equal(bed.nodeWrites.length, 0);
});

Deno.test("an agent that stays away longer than the grace gets its node tainted", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), ...readyNodes("n1")],
    settings: { taintGrace: 1 },
  });
  await bed.leader();
  await pause(200);
  const started = performance.now();
  bed.server.store.put(cniPod("n1", "starting"));
  await until(() => bed.isTainted("n1"), "n1 is tainted");
  ok(performance.now() - started >= 990, "the grace was kept");
  equal(bed.nodeWrites.length, 1);
});

Deno.test("an agent that says itself that the plugin is gone gets its node tainted at once", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), ...readyNodes("n1", "n2")],
    settings: { taintGrace: 3600 },
  });
  await bed.leader();
  await pause(200);
  bed.server.store.put(cniPod("n2", "lost"));
  bed.server.store.put(cniPod("n1", "denies"));
  await until(() => bed.isTainted("n1"), "n1 is tainted");
  await until(() => bed.events("n1").length === 1, "an Event");
  match(bed.events("n1")[0]!, /its agent reports that the plugin is not installed/);
  await pause(200);
  equal(bed.isTainted("n2"), false, "a node that is lost says nothing about the plugin");
});

Deno.test("a node that was rebooted or made anew has no grace", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), ...readyNodes("n1", "n2")],
    settings: { taintGrace: 3600 },
  });
  await bed.leader();
  await pause(200);
  const { store } = bed.server;
  // The node tells of its new boot before kubelet tells that the pod is not ready any longer.
  store.put(node("n1", { bootId: "boot-2" }));
  await pause(100);
  store.put(cniPod("n1", "starting"));
  store.delete("nodes", undefined, "n2");
  store.delete("pods", "kube-system", "cni-n2");
  store.put(node("n2", { ageSeconds: 0 }));
  await until(() => bed.isTainted("n1") && bed.isTainted("n2"), "both are tainted");
});

Deno.test("nodes where the DaemonSet can never run are left alone", async () => {
  const windows = { "kubernetes.io/os": "windows" };
  await using bed = await ControllerBed.start({
    objects: [
      daemonSet(),
      node("windows", { ageSeconds: 0, labels: windows }),
      node("born", { ageSeconds: 0, labels: windows, tainted: true }),
      node("riscv", { ageSeconds: 0, labels: { "kubernetes.io/arch": "riscv64" } }),
      node("linux", { ageSeconds: 0 }),
    ],
  });
  await bed.leader();
  await until(() => bed.isTainted("linux"), "linux is tainted");
  await pause(200);
  deepEqual(bed.nodeWrites.map(({ target }) => target), ["/api/v1/nodes/linux"]);
  // The selector changes, so that ours must go.
  bed.server.store.put(daemonSet({ nodeSelector: { pool: "mesh" } }));
  await until(() => !bed.isTainted("linux"), "linux is free");
  equal(bed.nodeWrites.length, 2);
});

Deno.test("without the DaemonSet our taints go, and those of others stay", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), node("ours", { ageSeconds: 0 }), node("theirs", { tainted: true })],
  });
  await bed.leader();
  await until(() => bed.isTainted("ours"), "ours is tainted");
  // By then its watch has told of the taint: later it would try once more to take it away.
  await until(() => bed.events("ours").length === 1, "an Event");
  bed.server.store.delete("daemonsets", "kube-system", "kuma-cni-node");
  await until(() => !bed.isTainted("ours"), "ours is free");
  await pause(100);
  equal(bed.isTainted("theirs"), true);
  equal(bed.nodeWrites.length, 2);
});

Deno.test("switched off, it takes away the taints that it has left", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), node("ours", { ageSeconds: 0 }), node("theirs", { tainted: true })],
  });
  const first = await bed.leader("a");
  await until(() => bed.isTainted("ours"), "ours is tainted");
  await first.stop();
  await bed.leader("b", { taintEnabled: false });
  await until(() => !bed.isTainted("ours"), "ours is free");
  equal(bed.isTainted("theirs"), true);
});

Deno.test("before an uninstallation the controller is held off, and every taint is taken away", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), node("ours", { ageSeconds: 0 }), node("theirs", { tainted: true })],
  });
  const leader = await bed.leader();
  await until(() => bed.isTainted("ours"), "ours is tainted");
  using client = bed.client();
  const { signal } = new AbortController();
  const lease = { namespace: "kube-system", name: "kuma-cni-controller", identity: "x", signal };
  equal(await takeLease(client, lease, 60_000), true);
  await until(() => !leader.isLeading, "the leader stops");
  const nodes = await removeTaints(client, {
    taint: referenceTaint,
    which: "all",
    signal,
    change: (change, what) => client.change(change, { what }),
  });
  deepEqual(nodes.sort(), ["ours", "theirs"]);
  await pause(1_000);
  deepEqual(
    [bed.isTainted("ours"), bed.isTainted("theirs"), leader.isLeading],
    [false, false, false],
  );
  equal(await takeLease(client, { ...lease, name: "no-such" }, 1_000), false);
});

Deno.test("a DaemonSet that does not tolerate the taint is not locked out", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet({ tolerations: [] }), node("n1", { ageSeconds: 0 })],
  });
  const leader = await bed.leader();
  await until(() => leader.logText.includes("do not tolerate the taint"), "a warning");
  await pause(100);
  equal(bed.nodeWrites.length, 0);
});

Deno.test("key and effect can be chosen", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet({ tolerations: [{ operator: "Exists" }] }), node("n1", { ageSeconds: 0 })],
    settings: { taintKey: "kuma.io/cni-not-ready", taintEffect: "NoExecute" },
  });
  await bed.leader();
  await until(() => bed.taints("n1").length === 1, "n1 is tainted");
  deepEqual(bed.taints("n1"), ["kuma.io/cni-not-ready:NoExecute"]);
});

Deno.test("next to a control plane with the same controller: same end, no fight", async () => {
  const windows = { "kubernetes.io/os": "windows" };
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), ...readyNodes("n1"), node("w1", { labels: windows })],
    settings: { taintGrace: 1 },
  });
  await using reference = new ReferenceController(bed);
  await bed.leader();
  await until(() => bed.isTainted("w1"), "the reference taints w1");
  const { store } = bed.server;
  for (let i = 0; i < 10; i++) {
    store.put(cniPod("n1", i % 2 === 0 ? "starting" : "ready"));
    await pause(50);
  }
  store.put(node("n2", { ageSeconds: 0 }));
  await pause(300);
  store.put(cniPod("n2", "ready"));
  await pause(500);
  deepEqual(["n1", "n2", "w1"].map((name) => bed.isTainted(name)), [false, false, true]);
  const writes = bed.nodeWrites.length + reference.writes;
  await pause(500);
  equal(bed.nodeWrites.length + reference.writes, writes, "nobody writes any more");
  // Each change of a state is written by one of the two; the other's attempt changes nothing.
  ok(bed.nodeWrites.length <= 14, `${bed.nodeWrites.length} writes`);
});

Deno.test("what others change at the same time is kept", async () => {
  await using bed = await ControllerBed.start({ objects: [daemonSet()] });
  await bed.leader();
  const { store } = bed.server;
  for (let i = 0; i < 10; i++) store.put(node(`n${i}`, { ageSeconds: 0 }));
  // Somebody else, such as a cloud's controller, removes its own taint and labels in between.
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 10; i++) {
      const current = structuredClone(store.get("nodes", undefined, `n${i}`));
      const spec = current.spec as { taints?: unknown[] };
      spec.taints = [...spec.taints ?? [], { key: `cloud-${round}`, effect: "NoSchedule" }];
      store.put(current);
    }
    await pause(7);
  }
  const complete = () => Array.from({ length: 10 }, (_, i) => bed.taints(`n${i}`).length === 6);
  await until(() => complete().every((is) => is), "all six taints on each node");
  ok(bed.nodeWrites.length <= 80, `${bed.nodeWrites.length} writes for 10 nodes`);
});

Deno.test("the rights of the manifests are enough, and each of them is needed", async () => {
  await using bed = await ControllerBed.start({
    objects: [
      daemonSet(),
      node("n1", { ageSeconds: 0, tainted: true }),
      attachmentDefinition(),
      namespace("new", "true"),
      namespace("taken-over", "true"),
      attachment("taken-over"),
    ],
    settings: { taintGrace: 0 },
  });
  const first = await bed.leader("a");
  bed.server.store.put(cniPod("n1", "ready"));
  await until(() => !bed.isTainted("n1"), "n1 is free");
  bed.server.store.put(cniPod("n1", "starting"));
  await until(() => bed.isTainted("n1"), "n1 is tainted");
  await until(() => bed.events("n1").length === 2, "Events are written");
  await until(() => bed.server.store.has(attachments, "new", "kuma-cni"), "one is made");
  bed.server.store.put(namespace("new"));
  await until(() => !bed.server.store.has(attachments, "new", "kuma-cni"), "it is deleted");
  await first.stop();
  // A removal that somebody else comes before looks at the node again.
  bed.server.inject({ kind: "status", code: 409 }, { verb: "patch", path: "/nodes/", times: 1 });
  await bed.leader("b", { taintEnabled: false });
  await until(() => !bed.isTainted("n1"), "n1 is free");
  const granted = grantedRights();
  const used = new Set(bed.server.requests.map(({ verb, target }) => {
    const [, group = "", namespace = "", resource] =
      /^\/apis?\/(?:([^/]+\.?[^/]*)\/)?v1\/(?:namespaces\/([^/]+)\/)?([^/?]+)/.exec(target)!;
    // Those of the cluster's role are for every namespace.
    const where = resource === attachments ? "" : namespace;
    return `${verb} ${group}/${resource} ${where}`;
  }));
  deepEqual([...used].sort(), [...granted].sort());
});

const attachments = "network-attachment-definitions";

/** What the manifests grant, as `verb group/resource namespace`. */
function grantedRights(): Set<string> {
  const objects = manifestObjects(resolveValues({ cni: { controller: { enabled: true } } }));
  const roles = objects.filter(({ kind, metadata }) =>
    kind.endsWith("Role") && metadata.name.startsWith("kuma-cni-controller")
  );
  return new Set(
    roles.flatMap(({ metadata, rules }) =>
      (rules as { apiGroups: string[]; resources: string[]; verbs: string[] }[]).flatMap((rule) =>
        rule.verbs.map((verb) =>
          `${verb} ${rule.apiGroups[0]}/${rule.resources[0]} ${metadata.namespace ?? ""}`
        )
      )
    ),
  );
}

/** The reference's controller in its own words: no grace, no marks, every node. */
class ReferenceController implements AsyncDisposable {
  writes = 0;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(private readonly bed: ControllerBed) {
    this.#timer = setInterval(() => this.#reconcile(), 5);
  }

  #reconcile(): void {
    const { store } = this.bed.server;
    const parameters = new URLSearchParams();
    const list = (resource: string) =>
      store.list({ resource, namespace: undefined, parameters }).items as unknown as {
        metadata: { name: string };
        spec: { nodeName: string };
        status: { phase: string; conditions: { type: string; status: string }[] };
      }[];
    const ready = new Set(
      list("pods").filter(({ status }) =>
        status.phase === "Running" &&
        status.conditions.some(({ type, status }) => type === "Ready" && status === "True")
      ).map(({ spec }) => spec.nodeName),
    );
    for (const { metadata: { name } } of list("nodes")) {
      if (this.bed.isTainted(name) !== ready.has(name)) continue;
      const current = structuredClone(store.get("nodes", undefined, name));
      const spec = current.spec as { taints?: { key: string; effect: string }[] };
      spec.taints = ready.has(name)
        ? (spec.taints ?? []).filter(({ key }) => key !== "NodeReadiness")
        : [...spec.taints ?? [], { key: "NodeReadiness", effect: "NoSchedule" }];
      store.put(current);
      this.writes++;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    return Promise.resolve();
  }
}
