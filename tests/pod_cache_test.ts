import assert from "node:assert/strict";
import { PodCache, type PodCacheOptions } from "../installer/agent/pod_cache.ts";
import { KubernetesClient } from "../src/kubernetes/client.ts";
import { ApiError } from "../src/kubernetes/errors.ts";
import type { Pod } from "../src/kubernetes/pod.ts";
import { decideForPod } from "../src/pod/decide.ts";
import { libc } from "../src/linux/libc.ts";
import { ApiServer } from "./support/api_server.ts";
import { makeAuthority } from "./support/certificates.ts";
import { injectedPod, type PodObject } from "./support/pods.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

/** A cache that follows `node-1` of a stand-in API server. */
class Followed implements AsyncDisposable {
  readonly errors: Error[] = [];
  client: KubernetesClient;
  readonly cache: PodCache;
  readonly #done: Promise<void>;

  private constructor(
    readonly api: ApiServer,
    readonly folder: string,
    options: PodCacheOptions,
    certificateAuthority: string,
  ) {
    Deno.writeTextFileSync(this.tokenFile, api.token);
    this.client = this.connect(certificateAuthority);
    this.cache = new PodCache(() => this.client, () => Promise.resolve("node-1"), {
      firstRetryMilliseconds: 20,
      observer: { interrupted: (error) => this.errors.push(error) },
      ...options,
    });
    this.#done = this.cache.run();
  }

  static async start(
    pods: readonly PodObject[],
    options: PodCacheOptions = {},
    prepare: (api: ApiServer) => void = () => {},
    certificateAuthority?: string,
  ): Promise<Followed> {
    const api = await ApiServer.start({ objects: pods });
    prepare(api);
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-cache-" });
    return new Followed(api, folder, options, certificateAuthority ?? api.certificateAuthority);
  }

  /** Makes a client that trusts an authority. */
  connect(certificateAuthority: string): KubernetesClient {
    return new KubernetesClient({
      server: this.api.url,
      certificateAuthority,
      tokenFile: this.tokenFile,
      insecureSkipTlsVerify: false,
    }, { requestTimeoutMilliseconds: 1000 });
  }

  get tokenFile(): string {
    return `${this.folder}/token`;
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    for (let attempt = 0; attempt < 500; attempt++) {
      if (condition()) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`Waited 5 s in vain until ${what}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cache.stop();
    await this.#done;
    this.client.close();
    await this.api.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

const ask = (pod: PodObject, uid = pod.metadata.uid) => ({
  type: "pod" as const,
  namespace: pod.metadata.namespace ?? "default",
  name: pod.metadata.name,
  ...(uid === undefined ? {} : { uid }),
});

const withoutUid = (pod: PodObject) => {
  const { type, namespace, name } = ask(pod);
  return { type, namespace, name };
};

Deno.test("the cache holds this node's pods and follows them", async () => {
  const here = injectedPod({ name: "here", uid: crypto.randomUUID() });
  const there = injectedPod({ name: "there", nodeName: "node-2", uid: crypto.randomUUID() });
  await using followed = await Followed.start([here, there]);
  const { cache, api } = followed;
  await followed.until("the list has come", () => cache.live);
  assert.equal(cache.cached(ask(here))?.uid, here.metadata.uid);
  assert.equal(cache.cached(ask(there)), undefined);
  const later = injectedPod({ name: "later", uid: crypto.randomUUID() });
  api.store.put(later);
  await followed.until("the new pod is known", () => cache.cached(ask(later)) !== undefined);
  api.store.delete("pods", "demo", "here");
  await followed.until("the deleted pod is gone", () => cache.cached(ask(here)) === undefined);
  assert.equal(cache.size, 1);
});

Deno.test("a pod with another UID is never answered from the cache", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  await using followed = await Followed.start([pod]);
  const { cache } = followed;
  await followed.until("the list has come", () => cache.live);
  assert.equal(cache.cached(ask(pod, crypto.randomUUID())), undefined);
  const live = await cache.fetch(ask(pod, crypto.randomUUID()), AbortSignal.timeout(1000));
  assert.equal(live.uid, pod.metadata.uid);
});

Deno.test("without a UID a pod may be a predecessor of the same name, so the API is asked", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  await using followed = await Followed.start([pod]);
  const { cache } = followed;
  await followed.until("the list has come", () => cache.live);
  assert.equal(cache.cached(withoutUid(pod)), undefined);
  const live = await cache.fetch(withoutUid(pod), AbortSignal.timeout(1000));
  assert.equal(live.uid, pod.metadata.uid);
});

Deno.test("annotations that decide nothing, or are too long, take no memory", async () => {
  const settings = { "traffic.kuma.io/exclude-outbound-ports": "1234" };
  const padded = injectedPod({
    name: "padded",
    uid: crypto.randomUUID(),
    annotations: settings,
    padBytes: 200_000,
  });
  const huge = injectedPod({
    name: "huge",
    uid: crypto.randomUUID(),
    annotations: { "traffic.kuma.io/transparent-proxy-config": "#".repeat(60_000) },
  });
  await using followed = await Followed.start([padded, huge]);
  const { cache, api } = followed;
  await followed.until("the list has come", () => cache.live);
  const known = cache.cached(ask(padded));
  assert.ok(JSON.stringify(known).length < 5000);
  const redirect = (pod: Pod | undefined) =>
    decideForPod(pod!, { allowPodSettings: new Set(), resolvers: [] });
  const live = await cache.fetch(ask(padded), AbortSignal.timeout(1000));
  assert.deepEqual(redirect(known), redirect(live));
  assert.equal(cache.cached(ask(huge)), undefined);
  assert.equal((await cache.fetch(ask(huge), AbortSignal.timeout(1000))).uid, huge.metadata.uid);
  const { annotations: _, ...metadata } = huge.metadata;
  api.store.put({ ...huge, metadata });
  await followed.until("it is short enough", () => cache.cached(ask(huge)) !== undefined);
  api.store.put(huge);
  await followed.until("it is too long again", () => cache.cached(ask(huge)) === undefined);
});

Deno.test("an API outage leaves the cache in force, and it catches up afterwards", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  await using followed = await Followed.start([pod]);
  const { cache, api } = followed;
  await followed.until("the list has come", () => cache.live);
  api.inject({ kind: "close" });
  api.closeConnections();
  await followed.until("the interruption is noticed", () => !cache.live);
  assert.equal(cache.cached(ask(pod))?.uid, pod.metadata.uid);
  assert.equal((await cache.fetch(ask(pod), AbortSignal.timeout(2000))).uid, pod.metadata.uid);
  await assert.rejects(cache.fetch(withoutUid(pod), AbortSignal.timeout(2000)), ApiError);
  assert.ok((cache.ageSeconds ?? 0) > 0);
  const missed = injectedPod({ name: "missed", uid: crypto.randomUUID() });
  api.store.put(missed);
  api.clearFaults();
  await followed.until("the missed pod is known", () => cache.cached(ask(missed)) !== undefined);
});

Deno.test("a pod that the API server says is gone is gone, though the watch lags behind", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  await using followed = await Followed.start([pod], {}, (api) => {
    api.inject({ kind: "hang" }, { verb: "watch" });
  });
  const { cache, api } = followed;
  await followed.until("the list has come", () => cache.live);
  api.store.delete("pods", "demo", "a");
  assert.ok(cache.cached(ask(pod)) !== undefined, "the watch has not said so");
  await assert.rejects(
    cache.fetch(ask(pod), AbortSignal.timeout(1000)),
    (error) => error instanceof ApiError && error.status === 404,
  );
});

Deno.test("a forgotten history (410) leads to a new list", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  await using followed = await Followed.start([pod]);
  const { cache, api } = followed;
  await followed.until("the watch runs", () => cache.live && api.watches === 1);
  api.inject({ kind: "close" }, { verb: "watch", times: 3 });
  api.closeConnections();
  const next = injectedPod({ name: "b", uid: crypto.randomUUID() });
  api.store.put(next);
  api.store.delete("pods", "demo", "a");
  api.store.compact();
  await followed.until("the cache has caught up", () => cache.cached(ask(next)) !== undefined);
  await followed.until("the deleted pod is gone", () => cache.cached(ask(pod)) === undefined);
});

Deno.test("without the right to list, pods are asked for live and the right is tried rarely", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  await using followed = await Followed.start([pod], { forbiddenRetryMilliseconds: 400 }, (api) => {
    api.forbid("list", "pods");
    api.forbid("watch", "pods");
  });
  const { cache, api } = followed;
  await followed.until("the refusal has come", () => followed.errors.length > 0);
  assert.match(followed.errors[0]?.message ?? "", /403|forbidden/i);
  assert.equal(cache.cached(ask(pod)), undefined);
  assert.equal((await cache.fetch(ask(pod), AbortSignal.timeout(1000))).uid, pod.metadata.uid);
  const lists = () => api.requests.filter(({ verb }) => verb === "list").length;
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(lists(), 1);
  api.allow("list", "pods");
  api.allow("watch", "pods");
  await followed.until("the right is found to be there", () => cache.live);
});

for (const verb of ["list", "watch"]) {
  Deno.test(`a node that may not ${verb} pods asks again after ten minutes`, async () => {
    const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
    const waits: number[] = [];
    const observer = {
      interrupted: (_error: Error, milliseconds: number) => waits.push(milliseconds),
    };
    await using followed = await Followed.start([pod], { observer }, (api) => {
      api.forbid(verb, "pods");
    });
    await followed.until("the refusal has come", () => waits.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.deepEqual(waits, [600_000], "2,000 nodes must not ask all day");
    assert.equal(followed.cache.live, false);
    const { requests } = followed.api;
    assert.equal(requests.filter((request) => request.verb === verb).length, 1);
  });
}

Deno.test("a late word that a predecessor is gone does not take its successor", async () => {
  const before = injectedPod({ name: "a", uid: crypto.randomUUID() });
  const after = injectedPod({ name: "a", uid: crypto.randomUUID() });
  const other = injectedPod({ name: "b", uid: crypto.randomUUID() });
  const event = (type: string, pod: PodObject) => `${JSON.stringify({ type, object: pod })}\n`;
  await using followed = await Followed.start([before], {}, (api) => {
    const body = event("ADDED", after) + event("DELETED", before) + event("ADDED", other);
    api.inject({ kind: "body", body }, { verb: "watch", times: 1 });
    api.inject({ kind: "hang" }, { verb: "watch" });
  });
  const { cache } = followed;
  await followed.until("all events are seen", () => cache.cached(ask(other)) !== undefined);
  assert.equal(cache.cached(ask(after))?.uid, after.metadata.uid);
  assert.equal(cache.cached(ask(before)), undefined);
});

Deno.test("a watch that runs again after an outage is live again, also when nothing happens", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  await using followed = await Followed.start([pod]);
  const { cache, api } = followed;
  await followed.until("the watch runs", () => cache.live && api.watches === 1);
  api.inject({ kind: "status", code: 503 }, { times: 2 });
  api.closeConnections();
  await followed.until("the outage is seen", () => !cache.live);
  await followed.until("it is over", () => cache.live);
  assert.equal(cache.ageSeconds, 0);
});

Deno.test("a rotated token is used for the next request", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  await using followed = await Followed.start([pod]);
  const { cache, api } = followed;
  await followed.until("the list has come", () => cache.live);
  Deno.writeTextFileSync(followed.tokenFile, api.rotateToken());
  api.closeConnections();
  const later = injectedPod({ name: "later", uid: crypto.randomUUID() });
  api.store.put(later);
  await followed.until("the new pod is known", () => cache.cached(ask(later)) !== undefined);
  const missing = { type: "pod" as const, namespace: "demo", name: "none" };
  await assert.rejects(cache.fetch(missing, AbortSignal.timeout(1000)), { status: 404 });
});

Deno.test("a client with a wrong authority is replaced by the next one", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  const { certificate } = await makeAuthority();
  await using followed = await Followed.start([pod], {}, () => {}, certificate);
  const { cache, api, errors } = followed;
  await followed.until("the server is refused", () => errors.length >= 2);
  assert.match(errors[0]?.message ?? "", /certificate/i);
  followed.client.close();
  followed.client = followed.connect(api.certificateAuthority);
  await followed.until("the list has come", () => cache.cached(ask(pod)) !== undefined);
});
