/** What a stopping agent learns about its own DaemonSet in the rarer cases of `docs/installer.md`. */
import { deepEqual, equal } from "node:assert/strict";
import { proveRemoval, type RemovalProof } from "../installer/loop/removal_proof.ts";
import { parseSettings } from "../installer/settings/settings.ts";
import { type Settings } from "../installer/settings/declarations.ts";
import { libc } from "../src/linux/libc.ts";
import { ApiServer } from "./support/api_server.ts";
import "./support/load_libc.ts";
import { plainPod } from "./support/pods.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

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

  static async start(): Promise<Cluster> {
    const own = plainPod({ namespace: ownNamespace, name: ownName });
    const { uid, name } = daemonSet.metadata;
    own.metadata.ownerReferences = [
      { apiVersion: "apps/v1", kind: "DaemonSet", uid, name, controller: true },
    ];
    const api = await ApiServer.start({ objects: [own, structuredClone(daemonSet)] });
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

  async proof(settings = this.settings()): Promise<RemovalProof> {
    return await proveRemoval(settings, true, 1000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.api.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

Deno.test("a DaemonSet that was created anew under its name is no removal", async () => {
  await using cluster = await Cluster.start();
  equal((await cluster.proof()).kind, "staying");
  const { metadata } = daemonSet;
  cluster.api.store.put({ ...daemonSet, metadata: { ...metadata, uid: crypto.randomUUID() } });
  deepEqual(await cluster.proof(), {
    kind: "staying",
    reason: `the DaemonSet "${ownNamespace}/kuma-cni-node" was created anew`,
  });
});

Deno.test("without its own pod, or a DaemonSet that owns it, nothing is proven", async () => {
  await using cluster = await Cluster.start();
  const { api } = cluster;
  api.store.delete("daemonsets", ownNamespace, daemonSet.metadata.name);
  equal((await cluster.proof()).kind, "removed");
  const gone = await cluster.proof(cluster.settings({ POD_NAME: "other" }));
  equal(gone.kind, "unknown", gone.reason);
  api.store.put(plainPod({ namespace: ownNamespace, name: ownName }));
  deepEqual(await cluster.proof(), {
    kind: "unknown",
    reason: `no DaemonSet owns the pod "${ownName}"`,
  });
  const outside = cluster.settings({ KUBE_SERVICE_ACCOUNT_TOKEN_PATH: "/nowhere/token" });
  deepEqual(await cluster.proof(outside), {
    kind: "unknown",
    reason: "not running as a pod",
  });
});

Deno.test("a refusal proves a removal only when that is set, and it lasts", async () => {
  await using cluster = await Cluster.start();
  const settings = cluster.settings({ KUMA_CNI_UNINSTALL_WHEN_REFUSED: "true" });
  for (const code of [401, 403]) {
    cluster.api.inject({ kind: "status", code }, { times: 1 });
    equal((await cluster.proof(settings)).kind, "unknown");
    cluster.api.inject({ kind: "status", code });
    equal((await cluster.proof(settings)).kind, "removed");
    equal((await cluster.proof()).kind, "unknown", "by default pods stay captured");
    cluster.api.clearFaults();
  }
});
