import assert from "node:assert/strict";
import { PodCache, type PodCacheOptions } from "../installer/agent/pod_cache.ts";
import { KubernetesClient } from "../src/kubernetes/client.ts";
import { libc } from "../src/linux/libc.ts";
import { ApiServer } from "./support/api_server.ts";
import { injectedPod, type PodObject } from "./support/pods.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

/** A cache that follows `node-1` of a stand-in API server. */
class Followed implements AsyncDisposable {
  readonly errors: Error[] = [];
  readonly #client: KubernetesClient;
  readonly cache: PodCache;
  readonly #done: Promise<void>;

  private constructor(readonly api: ApiServer, readonly folder: string, options: PodCacheOptions) {
    Deno.writeTextFileSync(this.tokenFile, api.token);
    this.#client = new KubernetesClient({
      server: api.url,
      certificateAuthority: api.certificateAuthority,
      tokenFile: this.tokenFile,
      insecureSkipTlsVerify: false,
    }, { requestTimeoutMilliseconds: 1000 });
    this.cache = new PodCache(this.#client, () => Promise.resolve("node-1"), {
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
  ): Promise<Followed> {
    const api = await ApiServer.start({ objects: pods });
    prepare(api);
    return new Followed(api, await Deno.makeTempDir({ prefix: "kuma-test-cache-" }), options);
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
    this.#client.close();
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

Deno.test("an API outage leaves the cache in force, and it catches up afterwards", async () => {
  const pod = injectedPod({ name: "a", uid: crypto.randomUUID() });
  await using followed = await Followed.start([pod]);
  const { cache, api } = followed;
  await followed.until("the list has come", () => cache.live);
  api.inject({ kind: "close" });
  api.closeConnections();
  await followed.until("the interruption is noticed", () => !cache.live);
  assert.equal(cache.cached(ask(pod))?.uid, pod.metadata.uid);
  // Without a UID it might be a predecessor of the same name, so the API is asked; it is away.
  const unnamed = { type: "pod" as const, namespace: "demo", name: "a" };
  assert.equal(cache.cached(unnamed), undefined);
  assert.equal((await cache.fetch(unnamed, AbortSignal.timeout(2000))).uid, pod.metadata.uid);
  assert.ok((cache.ageSeconds ?? 0) > 0);
  const missed = injectedPod({ name: "missed", uid: crypto.randomUUID() });
  api.store.put(missed);
  api.clearFaults();
  await followed.until("the missed pod is known", () => cache.cached(ask(missed)) !== undefined);
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
