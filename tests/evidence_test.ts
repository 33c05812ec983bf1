/**
 * What a stopping agent learns from the API server about its own DaemonSet, with the rights of the
 * reference manifest (pods: get) and with the right to read DaemonSets. The table is that of
 * `docs/installer.md`.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { canReadOwnPod, type Evidence, gatherEvidence } from "../installer/evidence.ts";
import { parseSettings, type Settings } from "../installer/settings.ts";
import { ApiServer } from "./support/api_server.ts";
import { plainPod } from "./support/pods.ts";

const ownNamespace = "kube-system";
const ownName = "kuma-cni-node-x";
const daemonSet = {
  apiVersion: "apps/v1",
  kind: "DaemonSet",
  metadata: { namespace: ownNamespace, name: "kuma-cni-node", uid: crypto.randomUUID() },
};

/** An agent's pod with its DaemonSet in a cluster. */
class Cluster implements AsyncDisposable {
  private constructor(readonly api: ApiServer, readonly folder: string) {}

  /** @param rights With `reference`, the account may do no more than read pods. */
  static async start(rights: "reference" | "wide"): Promise<Cluster> {
    const own = plainPod({ namespace: ownNamespace, name: ownName });
    const { uid, name } = daemonSet.metadata;
    own.metadata.ownerReferences = [
      { apiVersion: "apps/v1", kind: "DaemonSet", uid, name, controller: true },
    ];
    const api = await ApiServer.start({ objects: [own, structuredClone(daemonSet)] });
    if (rights === "reference") api.forbid("get", "daemonsets");
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
    Deno.writeTextFileSync(`${folder}/ca.crt`, api.certificateAuthority);
    Deno.writeTextFileSync(`${folder}/token`, api.token);
    Deno.writeTextFileSync(`${folder}/namespace`, ownNamespace);
    return new Cluster(api, folder);
  }

  settings(change: Record<string, string> = {}): Settings {
    const { hostname, port } = new URL(this.api.url);
    const environment: Record<string, string> = {
      KUBE_CA_FILE: `${this.folder}/ca.crt`,
      KUBE_SERVICE_ACCOUNT_TOKEN_PATH: `${this.folder}/token`,
      KUBERNETES_SERVICE_HOST: hostname.replace(/^\[|\]$/g, ""),
      KUBERNETES_SERVICE_PORT: port,
      POD_NAME: ownName,
      ...change,
    };
    return parseSettings(({ variable }) => environment[variable], { needsConfig: false });
  }

  async evidence(couldReadPod: boolean, settings = this.settings()): Promise<Evidence> {
    return await gatherEvidence(settings, couldReadPod, 1000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.api.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

function remove(api: ApiServer): void {
  api.store.delete("daemonsets", ownNamespace, daemonSet.metadata.name);
}

function rewrite(api: ApiServer, metadata: Record<string, string>): void {
  api.store.put({ ...daemonSet, metadata: { ...daemonSet.metadata, ...metadata } });
}

Deno.test("with the right to read DaemonSets a removal is certain, and a rolling update is none", async () => {
  const cases: [string, (api: ApiServer) => void, Evidence["verdict"]][] = [
    ["is there", () => {}, "staying"],
    ["was created anew", (api) => rewrite(api, { uid: crypto.randomUUID() }), "staying"],
    [
      "is being deleted",
      (api) => rewrite(api, { deletionTimestamp: "2026-01-01T00:00:00Z" }),
      "removed",
    ],
    ["is gone", remove, "removed"],
  ];
  for (const [words, arrange, verdict] of cases) {
    await using cluster = await Cluster.start("wide");
    arrange(cluster.api);
    const found = await cluster.evidence(true);
    equal(found.verdict, verdict, `${words}: ${found.reason}`);
    match(found.reason, new RegExp(`DaemonSet "${ownNamespace}/kuma-cni-node" ${words}$`));
  }
});

Deno.test("with the reference's rights only a refusal of what was allowed proves a removal", async () => {
  await using cluster = await Cluster.start("reference");
  ok(await canReadOwnPod(cluster.settings(), AbortSignal.timeout(5000)));
  equal((await cluster.evidence(true)).verdict, "unknown", "a rolling update");
  remove(cluster.api);
  equal((await cluster.evidence(true)).verdict, "unknown", "only the DaemonSet was deleted");
  cluster.api.forbid("get", "pods");
  equal((await cluster.evidence(true)).verdict, "removed", "rights were deleted as well");
  equal((await cluster.evidence(false)).verdict, "unknown", "there never were any");
  equal(await canReadOwnPod(cluster.settings(), AbortSignal.timeout(5000)), false);
  cluster.api.allow("get", "pods");
  cluster.api.rotateToken();
  equal((await cluster.evidence(true)).verdict, "removed", "the account was deleted as well");
});

Deno.test("trouble with the API server is no evidence, and asking it is bounded", async () => {
  await using cluster = await Cluster.start("wide");
  const { api } = cluster;
  remove(api);
  const gone = await cluster.evidence(true, cluster.settings({ POD_NAME: "other" }));
  equal(gone.verdict, "unknown", "its own pod is gone");
  api.store.put(plainPod({ namespace: ownNamespace, name: ownName }));
  const unowned = await cluster.evidence(true);
  deepEqual(unowned, {
    verdict: "unknown",
    reason: `no DaemonSet owns the pod "${ownName}"`,
  });
  api.inject({ kind: "status", code: 503 }, { times: 1 });
  equal((await cluster.evidence(true)).verdict, "unknown");
  api.inject({ kind: "hang" });
  const started = performance.now();
  equal((await cluster.evidence(true)).verdict, "unknown");
  ok(performance.now() - started < 1500);
  await api.close();
  equal((await cluster.evidence(true)).verdict, "unknown");
  const outside = cluster.settings({ KUBE_SERVICE_ACCOUNT_TOKEN_PATH: "/nowhere/token" });
  deepEqual(await cluster.evidence(true, outside), {
    verdict: "unknown",
    reason: "not running as a pod",
  });
});
