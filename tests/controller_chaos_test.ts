/** The controller while the way to the API server is bad: the end state is right, writes are few. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { cniPod, ControllerBed, daemonSet, node, pause, until } from "./support/controller_bed.ts";

const names = Array.from({ length: 30 }, (_, i) => `n${i}`);

/** Every third node has no ready pod. */
function stateOf(index: number): "ready" | "starting" {
  return index % 3 === 0 ? "starting" : "ready";
}

function isAsItShouldBe(bed: ControllerBed): boolean {
  return names.every((name, i) => bed.isTainted(name) === (stateOf(i) !== "ready"));
}

async function bedOf(): Promise<ControllerBed> {
  return await ControllerBed.start({
    objects: [daemonSet(), ...names.map((name) => node(name, { ageSeconds: 0 }))],
    settings: { taintGrace: 0 },
    requestTimeoutMilliseconds: 800,
  });
}

Deno.test("watches that are dropped all the time", async () => {
  await using bed = await bedOf();
  await bed.leader();
  for (const [i, name] of names.entries()) {
    bed.server.store.put(cniPod(name, stateOf(i)));
    if (i % 5 === 0) bed.server.closeConnections();
    await pause(20);
  }
  await until(() => isAsItShouldBe(bed), "the right end state");
  // At most one for each node's taint, one for its removal, and one more for an answer that got lost.
  ok(bed.nodeWrites.length <= 3 * names.length, `${bed.nodeWrites.length} writes`);
});

Deno.test("histories that are forgotten, between watches and in the middle of a list", async () => {
  await using bed = await bedOf();
  await bed.leader();
  for (const [i, name] of names.entries()) {
    bed.server.store.put(cniPod(name, stateOf(i)));
    if (i % 5 === 0) {
      bed.server.store.compact();
      bed.server.closeConnections();
    }
    await pause(20);
  }
  await until(() => isAsItShouldBe(bed), "the right end state");
  ok(bed.nodeWrites.length <= 3 * names.length, `${bed.nodeWrites.length} writes`);
});

Deno.test("what went while nobody looked is noticed: a node, a pod, the DaemonSet's change", async () => {
  await using bed = await bedOf();
  await bed.leader();
  await until(() => names.every((name) => bed.isTainted(name)), "all are tainted");
  for (const name of names) bed.server.store.put(cniPod(name, "ready"));
  await until(() => names.every((name) => !bed.isTainted(name)), "all are free");
  bed.server.inject({ kind: "status", code: 503 }, { verb: "watch" });
  bed.server.inject({ kind: "status", code: 503 }, { verb: "list" });
  bed.server.closeConnections();
  bed.server.store.delete("pods", "kube-system", "cni-n1");
  bed.server.store.delete("nodes", undefined, "n2");
  bed.server.store.compact();
  await pause(300);
  equal(bed.isTainted("n1"), false, "nothing is decided while it is not known");
  bed.server.clearFaults();
  await until(() => bed.isTainted("n1"), "n1 is tainted");
  deepEqual(names.filter((name) => name !== "n2" && bed.isTainted(name)), ["n1"]);
});

Deno.test("conflicts, failures and a slow server", async () => {
  await using bed = await bedOf();
  await bed.leader();
  const scope = { verb: "patch", path: "/nodes/", times: 15 } as const;
  bed.server.inject({ kind: "status", code: 409, reason: "Conflict" }, scope);
  bed.server.inject({ kind: "status", code: 500 }, scope);
  bed.server.inject({ kind: "close" }, scope);
  bed.server.inject({ kind: "status", code: 429, retryAfterSeconds: 1 }, { ...scope, times: 5 });
  bed.server.inject({ kind: "delay", milliseconds: 200 }, scope);
  for (const [i, name] of names.entries()) bed.server.store.put(cniPod(name, stateOf(i)));
  await until(() => isAsItShouldBe(bed), "the right end state", 30_000);
  // Each of the 65 faults costs one attempt more, at most.
  ok(bed.nodeWrites.length <= 2 * names.length + 65, `${bed.nodeWrites.length} writes`);
});

Deno.test("a right that is missing is asked for again later and later, and said", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), node("n1", { ageSeconds: 0 })],
  });
  bed.server.forbid("patch", "nodes");
  const leader = await bed.leader();
  await pause(3_000);
  ok(bed.nodeWrites.length <= 7, `${bed.nodeWrites.length} attempts in 3 s`);
  ok(leader.logText.includes("cannot patch resource"));
  bed.server.allow("patch", "nodes");
  await until(() => bed.isTainted("n1"), "n1 is tainted");
});

Deno.test("when nothing happens nothing is asked, but for the Lease", async () => {
  await using bed = await bedOf();
  await bed.leader();
  for (const [i, name] of names.entries()) bed.server.store.put(cniPod(name, stateOf(i)));
  await until(() => isAsItShouldBe(bed), "the right end state");
  await pause(500);
  bed.server.requests.length = 0;
  // Heartbeats: the nodes change, and nothing of it concerns us.
  for (let round = 0; round < 5; round++) {
    for (const name of names) {
      const heartbeat = structuredClone(bed.server.store.get("nodes", undefined, name));
      (heartbeat.status as Record<string, unknown>).heartbeat = round;
      bed.server.store.put(heartbeat);
    }
    bed.server.bookmark();
    await pause(100);
  }
  deepEqual(bed.server.requests.filter(({ target }) => !target.includes("/leases/")), []);
});
