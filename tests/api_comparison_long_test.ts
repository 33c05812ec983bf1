/**
 * The stand-in for the API server, which all other tests believe, answers as the real one does.
 */
import assert from "node:assert/strict";
import { ApiServer } from "./support/api_server.ts";
import type { Questions, RawAnswer } from "./support/api_questions.ts";
import { KubernetesCluster } from "./support/kubernetes_cluster.ts";
import type { PodObject } from "./support/pods.ts";
import { accountObjects, rights } from "./support/reference_manifest.ts";

const program = new URL("support/api_questions.ts", import.meta.url).pathname;
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

if (Deno.env.get("KUMA_CNI_LONG_TESTS") === "1") {
  Deno.test("the stand-in answers like a real API server", async (t) => {
    await using cluster = await KubernetesCluster.start();
    await using standIn = await ApiServer.start();
    const real = await realSide(cluster);
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
      await cluster.killApiServer();
      await cluster.startApiServer();
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
  return answer!.body.split("\n").filter((line) => line !== "").map((line) => {
    const { type, object } = JSON.parse(line) as { type: string; object: PodObject };
    return type === "BOOKMARK"
      ? { type, object: withoutVersions(object) }
      : { type, keys: Object.keys(object).slice(0, 3), labels: object.metadata.labels };
  });
}

async function realSide(cluster: KubernetesCluster): Promise<Side> {
  await cluster.apply(
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "demo" } },
    ...accountObjects(rights.reference),
  );
  let accountToken = "";
  await cluster.until("the accounts have their tokens", async () => {
    const { code } = await cluster.run("-n=demo", "get", "sa", "default");
    const { stdout } = await cluster.run("-n=kube-system", "get", "secrets", "-o=json");
    const { items } = JSON.parse(stdout) as {
      items: { metadata: { name: string }; data: { token: string } }[];
    };
    const secret = items.find(({ metadata }) => metadata.name.startsWith("kuma-cni-token"));
    accountToken = atob(secret?.data.token ?? "");
    return code === 0 && accountToken !== "";
  });
  const { certificateAuthority } = cluster;
  return {
    accountToken,
    adminToken: cluster.adminToken,
    ask: async (requests) => {
      const { stdout, stderr } = await cluster.onNode(
        Deno.execPath(),
        ["run", "--allow-all", "--no-config", program],
        JSON.stringify({ server: cluster.server, certificateAuthority, requests }),
      );
      assert.notEqual(stdout, "", stderr);
      return JSON.parse(stdout);
    },
    put: async (name, labels) => {
      // Without a scheduler nothing but the test changes it.
      await cluster.apply({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name, namespace: "demo", labels },
        spec: {
          schedulerName: "nobody",
          automountServiceAccountToken: false,
          containers: [{ name: "app", image: "app" }],
        },
      });
    },
    remove: async (name) => {
      await cluster.kubectl("-n=demo", "delete", "pod", name, "--wait=false");
    },
    bookmark: () => {},
    restrict: () => {},
  };
}

function standInSide(api: ApiServer): Side {
  const labelled = (name: string, labels: Record<string, string>): PodObject => ({
    kind: "Pod",
    apiVersion: "v1",
    metadata: { name, namespace: "demo", labels },
    spec: { containers: [{ name: "app", image: "app" }], schedulerName: "nobody" },
    status: { phase: "Pending", qosClass: "BestEffort" },
  });
  return {
    accountToken: api.token,
    adminToken: api.token,
    ask: async (requests) => {
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--allow-all", "--no-config", program],
        stdin: "piped",
        stdout: "piped",
        stderr: "inherit",
      }).spawn();
      const stdin = child.stdin.getWriter();
      const { url: server, certificateAuthority } = api;
      await stdin.write(
        new TextEncoder().encode(JSON.stringify({ server, certificateAuthority, requests })),
      );
      await stdin.close();
      return JSON.parse(new TextDecoder().decode((await child.output()).stdout));
    },
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
