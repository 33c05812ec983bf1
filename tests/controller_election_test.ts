/** Two replicas of the controller: one acts at a time, and the other one takes over. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  cniPod,
  ControllerBed,
  daemonSet,
  node,
  pause,
  type Replica,
  until,
} from "./support/controller_bed.ts";

function leaseOf(bed: ControllerBed): { holderIdentity: string; leaseTransitions: number } {
  const { spec } = bed.server.store.get("leases", "kube-system", "kuma-cni-controller");
  return spec as { holderIdentity: string; leaseTransitions: number };
}

async function waitsFor(replica: Replica, leader: string): Promise<void> {
  const sees = () => replica.controller.readiness.reason.includes(`${leader} leads`);
  await until(sees, `${replica.name} waits`);
}

/** Starts a leader "a", and "b", which waits for it. */
async function pairOf(bed: ControllerBed): Promise<[Replica, Replica]> {
  const a = await bed.leader("a");
  const b = bed.replica("b");
  await waitsFor(b, "a");
  return [a, b];
}

Deno.test("of two replicas one leads; after a stopped leader the other leads within 3 s", async () => {
  await using bed = await ControllerBed.start({ objects: [daemonSet()], times: {} });
  const [a, b] = await pairOf(bed);
  equal(leaseOf(bed).holderIdentity, "a");
  const started = performance.now();
  await a.stop();
  await until(() => b.isLeading, "b leads");
  ok(performance.now() - started <= 3_000, `${Math.round(performance.now() - started)} ms`);
  equal(leaseOf(bed).holderIdentity, "b");
  bed.server.store.put(node("n1", { ageSeconds: 0 }));
  await until(() => bed.isTainted("n1"), "b acts");
});

Deno.test("after a killed leader the other leads within 20 s", async () => {
  await using bed = await ControllerBed.start({ objects: [daemonSet()], times: {} });
  const [a, b] = await pairOf(bed);
  const started = performance.now();
  a.cut();
  await until(() => b.isLeading, "b leads", 25_000);
  const took = performance.now() - started;
  ok(took <= 20_000 && took >= 10_000, `${Math.round(took)} ms`);
  equal(leaseOf(bed).leaseTransitions, 1);
});

Deno.test("a leader that is cut off stops before the other one begins, and writes nothing later", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), node("n1"), cniPod("n1", "ready")],
    settings: { taintGrace: 0 },
  });
  const [a, b] = await pairOf(bed);
  let bothLed = false;
  const watching = setInterval(() => bothLed ||= a.isLeading && b.isLeading, 1);
  a.cut();
  bed.server.store.put(cniPod("n1", "starting"));
  await until(() => b.isLeading, "b leads");
  clearInterval(watching);
  equal(bothLed, false);
  await until(() => bed.isTainted("n1"), "b taints n1");
  const writes = bed.nodeWrites.length;
  a.restore();
  await waitsFor(a, "b");
  await pause(300);
  equal(bed.nodeWrites.length, writes);
  equal(writes, 1);
});

Deno.test("a leader that is slow to answer, and whose renewals get lost, goes on", async () => {
  await using bed = await ControllerBed.start({ objects: [daemonSet()] });
  const a = await bed.leader("a");
  // The server does what it was asked, and its answer gets lost.
  bed.server.inject({ kind: "cut", afterBytes: 10 }, { verb: "patch", path: "/leases/", times: 2 });
  bed.server.inject({ kind: "delay", milliseconds: 400 }, { verb: "patch", times: 3 });
  await pause(3_500);
  equal(a.isLeading, true);
  equal(leaseOf(bed).leaseTransitions, 0);
});

Deno.test("nobody leads while the Lease is refused, and that is said", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), node("n1", { ageSeconds: 0 })],
  });
  bed.server.forbid("create", "leases");
  const a = bed.replica("a");
  await until(() => a.logText.includes("cannot create resource"), "the log says why");
  await pause(500);
  equal(a.isLeading, false);
  equal(a.controller.readiness.ready, false);
  match(a.controller.readiness.reason, /cannot create resource/);
  deepEqual(bed.nodeWrites, []);
  equal(a.log.filter(({ severity }) => severity === "warn").length, 1, "said once a minute");
  bed.server.allow("create", "leases");
  await until(() => bed.isTainted("n1"), "a acts");
});

Deno.test("a wall clock that jumps changes nothing", async () => {
  await using bed = await ControllerBed.start({
    objects: [daemonSet(), node("n1"), cniPod("n1", "ready")],
    settings: { taintGrace: 3600 },
  });
  const [a, b] = await pairOf(bed);
  bed.server.store.put(cniPod("n1", "starting"));
  const realNow = Date.now;
  try {
    for (const jump of [86_400_000, -86_400_000]) {
      Date.now = () => realNow() + jump;
      await pause(1_200);
      deepEqual([a.isLeading, b.isLeading, bed.isTainted("n1")], [true, false, false]);
    }
  } finally {
    Date.now = realNow;
  }
  equal(leaseOf(bed).leaseTransitions, 0);
});

Deno.test("a replica that waits is ready only while it sees who leads", async () => {
  await using bed = await ControllerBed.start({ objects: [daemonSet()] });
  await bed.leader("a");
  const b = bed.replica("b");
  equal(b.controller.readiness.ready, false, "it has not seen the Lease yet");
  await waitsFor(b, "a");
  equal(b.controller.readiness.ready, true);
  b.cut();
  await until(() => !b.controller.readiness.ready, "b does not know who leads");
  b.restore();
  await waitsFor(b, "a");
  equal(b.controller.readiness.ready, true);
});
