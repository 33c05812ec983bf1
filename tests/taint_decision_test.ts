/** The tables behind the taint: decision, places of the DaemonSet, pods, patches, memory, settings. */
import { deepEqual, equal, throws } from "node:assert/strict";
import { parseCniPod } from "../installer/controller/cni_pod.ts";
import { canRunOn, parseDaemonSet, tolerates } from "../installer/controller/daemon_set.ts";
import { parseNode } from "../installer/controller/node.ts";
import { NodeMemory } from "../installer/controller/node_memory.ts";
import { decideTaint, type TaintFacts } from "../installer/controller/taint_decision.ts";
import { addingPatch, removingPatch } from "../installer/controller/taint_patch.ts";
import { parseControllerSettings } from "../installer/settings/settings.ts";
import { cniPod, daemonSet, node, type NodeChoices } from "./support/controller_bed.ts";
import { applyJsonPatch } from "./support/json_patch.ts";
import type { KubernetesObject } from "./support/pods.ts";

Deno.test("decision table", async (t) => {
  const usual: TaintFacts = {
    tainted: false,
    ours: false,
    ready: false,
    denies: false,
    place: "possible",
    readyBefore: false,
    unreadyMilliseconds: 0,
  };
  const tainted = { tainted: true };
  const ours = { tainted: true, ours: true };
  const rows: [what: string, facts: Partial<TaintFacts>, action: string, again?: number][] = [
    // The reference's table.
    ["tainted, ready", { ...tainted, ready: true }, "remove"],
    ["tainted, not ready", tainted, "none"],
    ["free, ready", { ready: true }, "none"],
    ["free, not ready", {}, "add"],
    // Flaps.
    ["was ready, just now", { readyBefore: true }, "none", 1000],
    ["was ready, within the grace", { readyBefore: true, unreadyMilliseconds: 999 }, "none", 1],
    ["was ready, after the grace", { readyBefore: true, unreadyMilliseconds: 1000 }, "add"],
    ["the agent says it is gone", { readyBefore: true, denies: true }, "add"],
    ["tainted, the agent says it is gone", { ...tainted, denies: true }, "none"],
    // Where the DaemonSet cannot run.
    ["never, free", { place: "never" }, "none"],
    ["never, tainted by others", { place: "never", ...tainted }, "none"],
    ["never, tainted by us", { place: "never", ...ours }, "remove"],
    ["no DaemonSet, free", { place: "no-daemon-set" }, "none"],
    ["no DaemonSet, tainted by others", { place: "no-daemon-set", ...tainted }, "none"],
    ["no DaemonSet, tainted by us", { place: "no-daemon-set", ...ours }, "remove"],
    ["not tolerated, free", { place: "not-tolerated" }, "none"],
    ["not tolerated, tainted by us", { place: "not-tolerated", ...ours }, "remove"],
  ];
  for (const [what, facts, action, again] of rows) {
    await t.step(what, () => {
      const decision = decideTaint({ ...usual, ...facts }, 1000);
      deepEqual(decision, again === undefined ? { action } : { action, againMilliseconds: again });
    });
  }
});

Deno.test("where the DaemonSet can run", async (t) => {
  const terms = (...nodeSelectorTerms: unknown[]) => ({
    affinity: {
      nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
    },
  });
  const term = (key: string, operator: string, ...values: string[]) => ({
    matchExpressions: [{ key, operator, values }],
  });
  const a = { labels: { pool: "a", cores: "8" } };
  const rows: [what: string, pod: Record<string, unknown>, node: NodeChoices, can: boolean][] = [
    ["nothing asked", {}, {}, true],
    ["selector holds", { nodeSelector: { pool: "a" } }, a, true],
    ["selector does not hold", { nodeSelector: { pool: "b" } }, a, false],
    ["selector, label missing", { nodeSelector: { pool: "a" } }, {}, false],
    ["Windows", { nodeSelector: {} }, { labels: { "kubernetes.io/os": "windows" } }, false],
    ["other architecture", {}, { labels: { "kubernetes.io/arch": "s390x" } }, false],
    ["arm64", {}, { labels: { "kubernetes.io/arch": "arm64" } }, true],
    ["In", terms(term("pool", "In", "x", "a")), a, true],
    ["In, other", terms(term("pool", "In", "x")), a, false],
    ["NotIn", terms(term("pool", "NotIn", "a")), a, false],
    ["NotIn, missing", terms(term("zone", "NotIn", "a")), a, true],
    ["Exists", terms(term("pool", "Exists")), a, true],
    ["Exists, missing", terms(term("zone", "Exists")), a, false],
    ["DoesNotExist", terms(term("pool", "DoesNotExist")), a, false],
    ["Gt", terms(term("cores", "Gt", "4")), a, true],
    ["Lt", terms(term("cores", "Lt", "8")), a, false],
    ["Gt, no number", terms(term("pool", "Gt", "4")), a, false],
    ["unknown operator", terms(term("pool", "Like", "a")), a, false],
    ["one of two terms", terms(term("pool", "In", "x"), term("pool", "In", "a")), a, true],
    ["an empty term selects nothing", terms({}), a, false],
    ["no terms select nothing", terms(), a, false],
    [
      "by name",
      terms({ matchFields: [{ key: "metadata.name", operator: "In", values: ["n1"] }] }),
      a,
      true,
    ],
    [
      "by another name",
      terms({ matchFields: [{ key: "metadata.name", operator: "NotIn", values: ["n1"] }] }),
      a,
      false,
    ],
  ];
  for (const [what, pod, choices, can] of rows) {
    await t.step(what, () => {
      equal(canRunOn(parseDaemonSet(daemonSet(pod)), parsed(node("n1", choices))), can);
    });
  }
});

Deno.test("which tolerations tolerate the taint", () => {
  const taint = { key: "NodeReadiness", effect: "NoSchedule" };
  const rows: [toleration: Record<string, unknown>, tolerated: boolean][] = [
    [{ operator: "Exists" }, true],
    [{ operator: "Exists", effect: "NoSchedule" }, true],
    [{ operator: "Exists", effect: "NoExecute" }, false],
    [{ key: "NodeReadiness", operator: "Exists" }, true],
    [{ key: "NodeReadiness" }, true],
    [{ key: "NodeReadiness", operator: "Equal", value: "x" }, false],
    [{ key: "Other", operator: "Exists" }, false],
  ];
  for (const [toleration, tolerated] of rows) {
    const set = parseDaemonSet(daemonSet({ tolerations: [toleration] }));
    equal(tolerates(set, taint), tolerated, JSON.stringify(toleration));
  }
  const intolerant = parseDaemonSet(daemonSet({ tolerations: [] }));
  equal(tolerates(intolerant, taint), false);
  equal(tolerates(intolerant, { ...taint, effect: "PreferNoSchedule" }), true);
});

Deno.test("what a pod says about its node", () => {
  const rows = [
    ["ready", true, false],
    ["starting", false, false],
    ["denies", false, true],
    ["lost", false, false],
    ["pending", false, false],
  ] as const;
  for (const [state, ready, denies] of rows) {
    const pod = parseCniPod(cniPod("n1", state));
    deepEqual([pod.ready, pod.denies, pod.node], [ready, denies, "n1"], state);
  }
  // One that is being deleted stops its agent, which says nothing about the plugin.
  const stopping = cniPod("n1", "denies");
  stopping.metadata.deletionTimestamp = "2026-01-15T09:30:00Z";
  equal(parseCniPod(stopping).denies, false);
  throws(() => parseCniPod({ metadata: { name: "x" } }), /Not a pod/);
});

Deno.test("patches add and take away exactly one taint, of the node that was seen", () => {
  const name = { key: "NodeReadiness", effect: "NoSchedule" };
  const now = new Date(0);
  const other = { key: "gpu", effect: "NoExecute", timeAdded: "2026-01-15T09:30:00Z" };
  for (const annotations of [null, { "kuma.io/x~y": "z" }]) {
    for (const taints of [[], [other]]) {
      const before = stored(node("n1", { taints, annotations }));
      const added = applyJsonPatch(before, addingPatch(parseNode(before), name, now));
      deepEqual((added.spec as { taints: unknown }).taints, [...taints, name]);
      equal(added.metadata.annotations?.["kuma.io/cni-tainted-at"], "1970-01-01T00:00:00.000Z");
      const removed = applyJsonPatch(added, removingPatch(parseNode(added), name));
      deepEqual((removed.spec as { taints: unknown }).taints, taints);
      equal(removed.metadata.annotations?.["kuma.io/cni-tainted-at"], undefined);
      // A taint that somebody else has added meanwhile, and a node of the same name made anew.
      const changed = structuredClone(added);
      (changed.spec as { taints: unknown[] }).taints.unshift({ key: "new", effect: "NoSchedule" });
      changed.metadata.resourceVersion = "8";
      throws(() => applyJsonPatch(changed, removingPatch(parseNode(added), name)));
      throws(() => applyJsonPatch(changed, addingPatch(parseNode(before), name, now)));
      const anew = { ...before, metadata: { ...before.metadata, uid: "other" } };
      throws(() => applyJsonPatch(anew, addingPatch(parseNode(before), name, now)));
    }
  }
  // The reference's taint with a value, and without our annotation.
  const valued = stored(node("n1", { taints: [{ ...name, value: "x" }, other] }));
  const freed = applyJsonPatch(valued, removingPatch(parseNode(valued), name));
  deepEqual((freed.spec as { taints: unknown }).taints, [other]);
});

Deno.test("what is remembered of a node", () => {
  let now = 0;
  const wall = Date.parse("2026-01-15T10:00:00Z");
  const memory = new NodeMemory(() => now, () => wall);
  const at = (minutes: number) => ({
    ...parsed(node("n1")),
    created: wall - minutes * 60_000,
  });
  deepEqual(memory.note(at(1), undefined), { readyBefore: false, unreadyMilliseconds: 0 });
  now = 70;
  deepEqual(memory.note(at(1), undefined), { readyBefore: false, unreadyMilliseconds: 70 });
  deepEqual(memory.note(at(1), "10:00"), { readyBefore: true, unreadyMilliseconds: 0 });
  deepEqual(memory.note(at(1), undefined), { readyBefore: true, unreadyMilliseconds: 0 });
  memory.note(at(1), "10:01");
  const rebooted = { ...at(1), bootId: "boot-2" };
  deepEqual(memory.note(rebooted, "10:01"), { readyBefore: false, unreadyMilliseconds: 0 });
  deepEqual(memory.note(rebooted, undefined), { readyBefore: false, unreadyMilliseconds: 0 });
  deepEqual(memory.note(rebooted, "10:02"), { readyBefore: true, unreadyMilliseconds: 0 });
  // A leader that begins: an old node may have an agent that restarts just now.
  memory.forget("n1");
  equal(memory.size, 0);
  equal(memory.note(at(6), undefined).readyBefore, true);
});

Deno.test("settings of the controller: the reference's words, and no others", () => {
  const prefix = "KUMA_RUNTIME_KUBERNETES_NODE_TAINT_CONTROLLER";
  const read = (values: Record<string, string>) =>
    parseControllerSettings(({ variable }) => values[variable]);
  const app = { [`${prefix}_CNI_APP`]: "kuma-cni" };
  const settings = read(app);
  deepEqual([settings.taintEnabled, settings.cniApp, settings.cniNamespace, settings.taintGrace], [
    true,
    "kuma-cni",
    "kube-system",
    60,
  ]);
  deepEqual([settings.taintKey, settings.taintEffect], ["NodeReadiness", "NoSchedule"]);
  for (const word of ["false", "0", "f", "FALSE"]) {
    equal(read({ [`${prefix}_ENABLED`]: word }).taintEnabled, false, word);
  }
  for (const word of ["true", "1"]) {
    equal(read({ ...app, [`${prefix}_ENABLED`]: word }).taintEnabled, true, word);
  }
  const keys = ["kuma.io/x", "ignore-taint.cluster-autoscaler.kubernetes.io/kuma-cni"];
  for (const key of keys) equal(read({ ...app, KUMA_CNI_TAINT_KEY: key }).taintKey, key);
  equal(read({ ...app, KUMA_CNI_TAINT_GRACE: "0" }).taintGrace, 0);
  const wrong: [values: Record<string, string>, message: RegExp][] = [
    [{}, /_CNI_APP is "", expected the label "app"/],
    [{ ...app, [`${prefix}_ENABLED`]: "no" }, /_ENABLED is "no", expected true or false/],
    [{ ...app, KUMA_CNI_TAINT_KEY: "a b" }, /TAINT_KEY is "a b"/],
    [{ ...app, KUMA_CNI_TAINT_KEY: "/a" }, /TAINT_KEY is "\/a"/],
    [{ ...app, KUMA_CNI_TAINT_KEY: "A_b/c" }, /TAINT_KEY/],
    [{ ...app, KUMA_CNI_TAINT_EFFECT: "noschedule" }, /NoSchedule, PreferNoSchedule or NoExecute/],
    [{ ...app, KUMA_CNI_TAINT_GRACE: "-1" }, /0 or more/],
    [{ ...app, [`${prefix}_CNI_NAMESPACE`]: "Kube" }, /small letters/],
  ];
  for (const [values, message] of wrong) throws(() => read(values), message);
});

/** A node as a server that has stored it gives it. */
function stored(object: KubernetesObject): KubernetesObject {
  return { ...object, metadata: { ...object.metadata, uid: "u1", resourceVersion: "7" } };
}

function parsed(object: KubernetesObject) {
  return parseNode(stored(object));
}
