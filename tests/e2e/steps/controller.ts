/**
 * The controller against a real API server with etcd and real Leases, with the rights of the manifests
 * and no others.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { manifestObjects } from "../../../installer/manifests/objects.ts";
import { resolveValues } from "../../../installer/manifests/values.ts";
import type { ControllerSettings } from "../../../installer/settings/controller_declarations.ts";
import {
  attachment,
  attachmentDefinition,
  cniPod,
  daemonSet,
  namespace,
  node,
  pause,
  Replica,
  settingsWith,
  until,
} from "../../support/controller_bed.ts";
import type { KubernetesObject } from "../../support/pods.ts";
import type { RealApiServer } from "../support/real_api_server.ts";

/** The account that the manifests give the controller. */
export const controllerUser = "system:serviceaccount:kube-system:kuma-cni-controller";

/** Adds the steps. @param server One that knows the controller's account as a user. */
export async function controllerSteps(t: Deno.TestContext, server: RealApiServer): Promise<void> {
  const all = manifestObjects(resolveValues({ cni: { controller: { enabled: true } } }));
  const own = all.filter(({ kind, metadata }) =>
    metadata.name.startsWith("kuma-cni-controller") && kind !== "Deployment"
  );
  for (const object of own) await server.create(object as unknown as KubernetesObject);
  await server.create(daemonSet());

  await t.step("a new node whose agent starts late is tainted until then", async () => {
    await using a = await leader(server, "a");
    await server.create(node("n1", { taints: [{ key: "gpu", effect: "NoSchedule" }] }));
    await until(() => isTainted(server, "n1"), "n1 is tainted");
    await server.create(cniPod("n1", "starting"));
    await pause(1_000);
    equal(await isTainted(server, "n1"), true);
    await server.setStatus(cniPod("n1", "ready"));
    await until(async () => !await isTainted(server, "n1"), "n1 is free");
    const after = await server.get(node("n1"));
    deepEqual((after!.spec as { taints: unknown }).taints, [{
      key: "gpu",
      effect: "NoSchedule",
    }]);
    equal(after!.metadata.annotations?.["kuma.io/cni-tainted-at"], undefined);
    await until(async () => (await events(server, "n1")).length === 2, "two Events");
    match((await events(server, "n1")).join(), /CniNotReady/);
    equal(nodeWrites(a.replica), 2);
  });

  await t.step("nodes without taints and annotations, and one born with the taint", async () => {
    await using a = await leader(server, "a");
    await server.create(node("plain", { annotations: null }));
    await server.create(node("born", { tainted: true }));
    await until(() => isTainted(server, "plain"), "plain is tainted");
    for (const name of ["plain", "born"]) await server.create(cniPod(name, "ready"));
    await until(
      async () => !await isTainted(server, "plain") && !await isTainted(server, "born"),
      "both are free",
    );
    equal(nodeWrites(a.replica), 3);
  });

  await t.step(
    "an agent that is away within the grace writes nothing, one that denies does",
    async () => {
      await using a = await leader(server, "a", { taintGrace: 3600 });
      await pause(500);
      await server.setStatus(cniPod("n1", "starting"));
      await pause(500);
      equal(nodeWrites(a.replica), 0);
      await server.setStatus(cniPod("n1", "denies"));
      await until(() => isTainted(server, "n1"), "n1 is tainted");
      await server.setStatus(cniPod("n1", "ready"));
      await until(async () => !await isTainted(server, "n1"), "n1 is free");
      equal(nodeWrites(a.replica), 2);
    },
  );

  await t.step("what others change at the same time is kept", async () => {
    await using a = await leader(server, "a");
    const busy = Array.from({ length: 10 }, (_, i) => node(`busy-${i}`));
    for (const object of busy) await server.create(object);
    for (let round = 0; round < 5; round++) {
      await Promise.all(busy.map((object) =>
        server.patch(object, [{
          op: "add",
          path: "/metadata/labels",
          value: { "kubernetes.io/os": "linux", round: String(round) },
        }])
      ));
    }
    await until(async () => {
      const tainted = await Promise.all(
        busy.map(({ metadata }) => isTainted(server, metadata.name)),
      );
      return tainted.every((is) => is);
    }, "all are tainted");
    for (const object of busy) {
      equal((await server.get(object))!.metadata.labels!.round, "4");
      await server.delete(object);
    }
    ok(nodeWrites(a.replica) <= 60, `${nodeWrites(a.replica)} writes`);
  });

  await t.step(
    "the other replica takes over from one that is stopped, and one that is cut off",
    async () => {
      await using a = await leader(server, "a");
      await using b = replica(server, "b");
      await until(() => b.replica.controller.readiness.reason.includes("a leads"), "b waits");
      let started = performance.now();
      await a.replica.stop();
      await until(() => b.replica.isLeading, "b leads");
      ok(performance.now() - started <= 3_000, `${performance.now() - started} ms`);
      await using c = replica(server, "c");
      await until(() => c.replica.controller.readiness.reason.includes("b leads"), "c waits");
      started = performance.now();
      b.replica.cut();
      await until(() => c.replica.isLeading, "c leads", 25_000);
      ok(performance.now() - started <= 20_000, `${performance.now() - started} ms`);
      await server.setStatus(cniPod("n1", "denies"));
      await until(() => isTainted(server, "n1"), "c acts");
      await server.setStatus(cniPod("n1", "ready"));
      await until(async () => !await isTainted(server, "n1"), "n1 is free");
      b.replica.restore();
    },
  );

  await t.step("attachment definitions follow labels, and their kind", async () => {
    await using a = await leader(server, "a");
    await server.create(namespace("on", "enabled"));
    await server.create(namespace("wrong", "on"));
    await pause(500);
    await server.create(attachmentDefinition());
    await until(async () => await server.get(attachment("on")) !== undefined, "it is made");
    await until(async () => (await events(server, "wrong")).length === 1, "an Event");
    await server.create(namespace("taken-over"));
    await server.create(attachment("taken-over"));
    await setLabel(server, "taken-over", "yes");
    await until(async () => {
      const labels = (await server.get(attachment("taken-over")))?.metadata.labels;
      return labels?.["app.kubernetes.io/managed-by"] === "kuma-cni-controller";
    }, "it is taken over");
    for (const name of ["on", "taken-over"]) await setLabel(server, name, undefined);
    await until(async () =>
      await server.get(attachment("on")) === undefined &&
      await server.get(attachment("taken-over")) === undefined, "both are deleted");
    await server.delete(attachmentDefinition());
    await until(() => a.replica.logText.includes("not known any longer"), "that is noticed");
  });

  await t.step("no request was refused for a missing right", () => {
    deepEqual(logs.filter((text) => text.includes("forbidden")), []);
  });
}

const logs: string[] = [];

/** A replica that is stopped at the end of a step. */
class Running implements AsyncDisposable {
  constructor(readonly replica: Replica) {}

  async [Symbol.asyncDispose](): Promise<void> {
    await this.replica.stop();
    logs.push(...this.replica.log.map((record) => JSON.stringify(record)));
  }
}

function replica(
  server: RealApiServer,
  name: string,
  settings: Partial<ControllerSettings> = {},
): Running {
  const { port, certificateAuthority } = server;
  const access = { port, certificateAuthority, token: server.token(controllerUser) };
  return new Running(new Replica(access, name, settingsWith(settings), {}, 5_000));
}

async function leader(
  server: RealApiServer,
  name: string,
  settings: Partial<ControllerSettings> = {},
): Promise<Running> {
  const running = replica(server, name, settings);
  const { controller } = running.replica;
  await until(
    () => running.replica.isLeading && controller.readiness.ready,
    `${name} leads: ${running.replica.logText}`,
    25_000,
  );
  return running;
}

function nodeWrites({ controller }: Replica): number {
  return controller.metrics.changes.value({ kind: "nodes", verb: "patch" });
}

async function isTainted(server: RealApiServer, name: string): Promise<boolean> {
  const { taints = [] } = (await server.get(node(name)))!.spec as { taints?: { key: string }[] };
  return taints.some(({ key }) => key === "NodeReadiness");
}

async function setLabel(server: RealApiServer, name: string, label: string | undefined) {
  const labels = label === undefined ? {} : { "kuma.io/sidecar-injection": label };
  await server.patch(namespace(name), [{ op: "add", path: "/metadata/labels", value: labels }]);
}

async function events(server: RealApiServer, name: string): Promise<string[]> {
  const { items } = await server.admin.getJson(
    `/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D${name}`,
  );
  return (items as { reason: string }[]).map(({ reason }) => reason);
}
