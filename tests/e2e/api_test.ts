/**
 * Real API servers of today: the stand-in, which all other tests believe, answers as they do, and the
 * controller does its work with one.
 */
import "../support/load_libc.ts";
import assert from "node:assert/strict";
import { parts } from "../../scripts/e2e/parts.ts";
import { ApiServer } from "../support/api_server.ts";
import type { KubernetesObject, PodObject } from "../support/pods.ts";
import { accountObjects, rights } from "../support/reference_manifest.ts";
import { ask, type Questions, type RawAnswer } from "./support/api_questions.ts";
import { kubernetesVersions } from "./support/cluster.ts";
import { fact } from "./support/facts.ts";
import { RealApiServer } from "./support/real_api_server.ts";
import { controllerSteps, controllerUser } from "./steps/controller.ts";

const account = "system:serviceaccount:kube-system:kuma-cni";
fact(`Kubernetes ${kubernetesVersions.join(" and ")}, etcd ${parts.etcd.version}`);

const pods = "/api/v1/namespaces/demo/pods";

/** What the reference's account, and a person with all rights, may ask. */
const questions = {
  account: [
    `${pods}/one`,
    `${pods}/missing`,
    `${pods}/missing%2Fslash`,
    "/api/v1/namespaces/absent/pods/one",
    pods,
    "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1",
    "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dnode-1&timeoutSeconds=1",
    "/apis/apps/v1/namespaces/demo/daemonsets/kuma-cni-node",
  ],
  admin: [
    pods,
    `${pods}?limit=1`,
    `${pods}?fieldSelector=metadata.name%3Dtwo`,
    `${pods}?fieldSelector=metadata.name%3Dnobody`,
    `${pods}?fieldSelector=spec.colour%3Dred`,
    "/apis/apps/v1/namespaces/demo/daemonsets/kuma-cni-node",
    "/api/v1/namespaces/demo/nonsense/one",
    "/readyz",
  ],
} as const;

/** An API server to ask, and ways to change what it has. */
interface Side {
  ask(requests: Questions["requests"]): Promise<RawAnswer[]>;
  readonly accountToken: string;
  readonly adminToken: string;
  put(name: string, labels: Record<string, string>): Promise<void>;
  remove(name: string): Promise<void>;
  /** Makes a bookmark come, unless one comes by itself. */
  bookmark(): void;
  /** Takes away what the reference's account has not. */
  restrict(): void;
}

for (const version of kubernetesVersions) {
  Deno.test(`the stand-in answers like Kubernetes ${version}`, async (t) => {
    await using server = await RealApiServer.start(version, [account]);
    await using standIn = await ApiServer.start();
    const real = await realSide(server);
    const stood = standInSide(standIn);
    for (const side of [real, stood]) {
      await side.put("one", { colour: "red" });
      await side.put("two", { colour: "blue" });
    }

    for (const who of ["admin", "account"] as const) {
      if (who === "account") stood.restrict();
      const answers = await Promise.all([real, stood].map((side) => {
        const token = who === "admin" ? side.adminToken : side.accountToken;
        return side.ask(questions[who].map((path) => ({ path, token })));
      }));
      for (const [index, path] of questions[who].entries()) {
        await t.step(`${who}: ${path}`, () => {
          const [wanted, actual] = answers.map((answer) => comparable(answer[index]!));
          assert.deepEqual(actual, wanted);
        });
      }
    }
    await t.step("nobody and a stranger", async () => {
      const requests = [{ path: `${pods}/one` }, { path: `${pods}/one`, token: "x.y.z" }];
      const wanted = (await real.ask(requests)).map(comparable);
      assert.deepEqual((await stood.ask(requests)).map(comparable), wanted);
    });
    standIn.allow("watch", "pods");
    standIn.allow("list", "pods");
    await t.step("a watch", async () => {
      const [wanted, actual] = await Promise.all([real, stood].map(watchOne));
      assert.deepEqual(actual, wanted);
    });
    await t.step("a watch from a version that was forgotten", async () => {
      await server.restart();
      standIn.store.compact();
      const [wanted, actual] = await Promise.all([real, stood].map(async (side) => {
        const path = `${pods}?watch=true&resourceVersion=1&timeoutSeconds=1`;
        return (await side.ask([{ path, token: side.adminToken }])).map(comparable);
      }));
      assert.deepEqual(actual, wanted);
      assert.match(JSON.stringify(wanted), /"ERROR".*410/);
    });
  });
}

Deno.test("the controller against a real API server", async (t) => {
  await using server = await RealApiServer.start(kubernetesVersions[0], [controllerUser]);
  await controllerSteps(t, server);
});

/** Follows pods of one label through all that can happen to them; returns the events. */
async function watchOne(side: Side): Promise<unknown[]> {
  const path = `${pods}?watch=true&labelSelector=state%3Don&resourceVersion=0` +
    "&allowWatchBookmarks=true&timeoutSeconds=8";
  const watched = side.ask([{ path, token: side.adminToken }]);
  await pause(2000);
  await side.put("seen", { state: "on" });
  await side.put("seen", { state: "on", more: "yes" });
  await side.put("seen", { state: "off" });
  await side.put("seen", { state: "on" });
  await side.remove("seen");
  side.bookmark();
  const [answer] = await watched;
  assert.equal(answer!.status, 200);
  const events = answer!.body.split("\n").filter((line) => line !== "")
    .map((line) => JSON.parse(line) as { type: string; object: PodObject });
  // When bookmarks come, and how many, is the server's affair.
  const [bookmark] = events.filter(({ type }) => type === "BOOKMARK");
  assert.ok(bookmark !== undefined, "A bookmark must come");
  const others = events.filter(({ type }) => type !== "BOOKMARK").map(({ type, object }) => ({
    type,
    keys: Object.keys(object).slice(0, 3),
    labels: object.metadata.labels,
  }));
  return [withoutVersions(bookmark.object), ...others];
}

async function realSide(server: RealApiServer): Promise<Side> {
  const { url, certificateAuthority } = server;
  const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "demo" } };
  for (const object of [namespace, ...accountObjects(rights.reference)]) {
    await server.create(object as KubernetesObject);
  }
  const pod = (name: string, labels: Record<string, string> = {}) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "demo", labels },
    // Nobody but the test changes it.
    spec: { schedulerName: "nobody", containers: [{ name: "app", image: "app" }] },
  });
  return {
    accountToken: server.token(account),
    adminToken: server.token("admin"),
    ask: (requests) => ask({ server: url, certificateAuthority, requests }),
    put: async (name, labels) => {
      const object = pod(name, labels);
      if (await server.get(object) === undefined) await server.create(object);
      else await server.patch(object, [{ op: "add", path: "/metadata/labels", value: labels }]);
    },
    remove: (name) => server.delete(pod(name)),
    bookmark: () => {},
    restrict: () => {},
  };
}

function standInSide(api: ApiServer): Side {
  const labelled = (name: string, labels: Record<string, string>): PodObject => ({
    kind: "Pod",
    apiVersion: "v1",
    metadata: { name, namespace: "demo", generation: 1, labels },
    spec: { containers: [{ name: "app", image: "app" }], schedulerName: "nobody" },
    status: { phase: "Pending", qosClass: "BestEffort" },
  });
  return {
    accountToken: api.token,
    adminToken: api.token,
    ask: (requests) =>
      ask({ server: api.url, certificateAuthority: api.certificateAuthority, requests }),
    put: (name, labels) => {
      api.store.put(labelled(name, labels));
      return Promise.resolve();
    },
    remove: (name) => {
      // First it is marked, then deleted.
      const pod = api.store.get("pods", "demo", name);
      const deletionTimestamp = new Date().toISOString();
      api.store.put({ ...pod, metadata: { ...pod.metadata, deletionTimestamp } });
      api.store.delete("pods", "demo", name);
      return Promise.resolve();
    },
    bookmark: () => api.bookmark(),
    restrict: () => {
      api.forbid("list", "pods");
      api.forbid("watch", "pods");
      api.forbid("get", "daemonsets");
    },
  };
}

/** An answer without what differs from server to server: versions, times, tokens and pods' contents. */
function comparable({ status, contentType, body }: RawAnswer): unknown {
  if (contentType?.startsWith("application/json") !== true) return { status, contentType, body };
  const lines = body.trimEnd().split("\n").map((line) => withoutVersions(JSON.parse(line)));
  return { status, contentType, body: lines.length === 1 ? lines[0] : lines };
}

function withoutVersions(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (key, value) => {
    switch (key) {
      case "resourceVersion":
      case "continue":
      case "uid":
        return typeof value;
      case "message":
        return String(value)
          .replace(/system:serviceaccount:[a-z-]+:kuma-cni/, "ACCOUNT")
          .replace(/too old resource version: 1 \(\d+\)/, "too old resource version: 1 (N)");
      case "items":
        return (value as PodObject[]).map((item) => [Object.keys(item)[0], item.metadata.name]);
      case "metadata": {
        const { creationTimestamp, managedFields: _, annotations: __, ...rest } = value;
        return creationTimestamp === null ? { creationTimestamp, ...rest } : rest;
      }
      case "spec":
      case "status":
        return typeof value === "object" && Object.keys(value).length > 1 ? "CONTENT" : value;
      default:
        return value;
    }
  }));
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
