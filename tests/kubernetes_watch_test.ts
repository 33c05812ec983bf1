import assert from "node:assert/strict";
import { KubernetesClient } from "../src/kubernetes/client.ts";
import { parsePod, type Pod } from "../src/kubernetes/pod.ts";
import { watch, type WatchNotice, type WatchOptions } from "../src/kubernetes/watch.ts";
import { ApiServer } from "./support/api_server.ts";
import { plainPod } from "./support/pods.ts";

/** A server with pods on two nodes, and a follower of those on `node-1`. */
class Bed implements AsyncDisposable {
  readonly controller = new AbortController();
  /** What a follower that applies every notice has, by name. */
  readonly known = new Map<string, Pod>();
  readonly notices: string[] = [];
  /** The generator has returned. */
  finished = false;
  #following: Promise<void>;

  private constructor(
    readonly server: ApiServer,
    readonly client: KubernetesClient,
    options: Partial<WatchOptions<Pod>>,
  ) {
    this.#following = this.#follow(watch(client, {
      path: "/api/v1/pods",
      fieldSelector: "spec.nodeName=node-1",
      parse: parsePod,
      signal: this.controller.signal,
      firstRetryMilliseconds: 20,
      longestRetryMilliseconds: 100,
      ...options,
    }));
  }

  static async start(
    names: readonly string[],
    options: Partial<WatchOptions<Pod>> = {},
    prepare: (server: ApiServer) => void = () => {},
  ): Promise<Bed> {
    const server = await ApiServer.start({
      objects: [
        ...names.map((name) => plainPod({ name })),
        plainPod({ name: "elsewhere", nodeName: "node-2" }),
      ],
    });
    prepare(server);
    const client = new KubernetesClient({
      server: server.url,
      certificateAuthority: server.certificateAuthority,
      token: server.token,
      insecureSkipTlsVerify: false,
    });
    return new Bed(server, client, options);
  }

  async #follow(notices: AsyncIterable<WatchNotice<Pod>>): Promise<void> {
    for await (const notice of notices) {
      switch (notice.type) {
        case "snapshot":
          this.known.clear();
          for (const pod of notice.objects) this.known.set(pod.name, pod);
          this.notices.push(`snapshot ${notice.objects.length}`);
          break;
        case "put":
          this.known.set(notice.object.name, notice.object);
          this.notices.push(`put ${notice.object.name}`);
          break;
        case "deleted":
          this.known.delete(notice.object.name);
          this.notices.push(`deleted ${notice.object.name}`);
          break;
        case "resumed":
          this.notices.push("resumed");
          break;
        default:
          this.notices.push(`${notice.type}: ${notice.error.message}`);
      }
    }
    this.finished = true;
  }

  /** Waits until the condition holds. */
  async until(condition: () => boolean): Promise<void> {
    const end = performance.now() + 5000;
    while (!condition()) {
      if (performance.now() > end) {
        assert.fail(`Waited in vain; notices: ${this.notices.join("; ")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Waits until the follower knows exactly these pods and watches. */
  async settled(...names: string[]): Promise<void> {
    const wanted = names.toSorted().join();
    await this.until(() =>
      [...this.known.keys()].sort().join() === wanted && this.server.watches === 1
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.controller.abort();
    await this.#following;
    assert(this.finished);
    this.client.close();
    await this.server.close();
  }
}

Deno.test("a follower sees what is there, what comes, changes and goes", async () => {
  await using bed = await Bed.start(["a", "b"]);
  await bed.settled("a", "b");
  assert.deepEqual(bed.notices, ["snapshot 2"]);
  bed.server.store.put(plainPod({ name: "c" }));
  bed.server.store.put(plainPod({ name: "x", nodeName: "node-2" }));
  bed.server.store.put(plainPod({ name: "a", annotations: { changed: "yes" } }));
  bed.server.store.delete("pods", "demo", "b");
  await bed.settled("a", "c");
  assert.deepEqual(bed.notices, ["snapshot 2", "put c", "put a", "deleted b"]);
  assert.equal(bed.known.get("a")?.annotations.changed, "yes");
});

Deno.test("an object that no longer matches is deleted for the follower", async () => {
  await using bed = await Bed.start(["a"]);
  await bed.settled("a");
  bed.server.store.put(plainPod({ name: "a", nodeName: "node-2" }));
  await bed.settled();
});

Deno.test("long lists come in pages of one version", async () => {
  const names = Array.from({ length: 25 }, (_, at) => `pod-${String(at).padStart(2, "0")}`);
  await using bed = await Bed.start(names, { pageSize: 10 });
  await bed.settled(...names);
  assert.deepEqual(bed.notices, ["snapshot 25"]);
  const lists = bed.server.requests.filter(({ verb }) => verb === "list");
  assert.equal(lists.length, 3);
  assert(lists.every(({ target }) => target.includes("limit=10&") || target.endsWith("limit=10")));
});

Deno.test("a page may have 2 MiB for each object that was asked for, and no more", async () => {
  const large = (name: string, padBytes: number) => plainPod({ name, padBytes });
  await using bed = await Bed.start([], { pageSize: 4 }, (server) => {
    for (const name of ["a", "b", "c"]) server.store.put(large(name, 1_600_000));
  });
  await bed.settled("a", "b", "c");
  await using narrow = await Bed.start([], { pageSize: 1 }, (server) => {
    server.store.put(large("a", 2_200_000));
  });
  await narrow.until(() => narrow.notices.length > 0);
  assert.match(narrow.notices[0]!, /^interrupted: .* is longer than 2097152 bytes$/);
});

Deno.test("a watch that the server ends goes on where it was, without a list", async () => {
  await using bed = await Bed.start(["a"], { watchSeconds: 1 });
  await bed.settled("a");
  bed.server.store.put(plainPod({ name: "b" }));
  await bed.settled("a", "b");
  const version = bed.server.store.resourceVersion;
  const watches = () => bed.server.requests.filter(({ verb }) => verb === "watch");
  await bed.until(() => watches().length === 2);
  assert.match(watches()[1]!.target, new RegExp(`resourceVersion=${version}(&|$)`));
  bed.server.store.put(plainPod({ name: "c" }));
  await bed.settled("a", "b", "c");
  assert.deepEqual(bed.notices, ["snapshot 1", "put b", "put c"]);
});

Deno.test("a lost connection is an interruption, and nothing is missed", async () => {
  await using bed = await Bed.start(["a"]);
  await bed.settled("a");
  bed.server.inject({ kind: "status", code: 503 }, { times: 2 });
  bed.server.closeConnections();
  bed.server.store.put(plainPod({ name: "b" }));
  bed.server.store.delete("pods", "demo", "a");
  await bed.settled("b");
  assert.equal(bed.notices.filter((text) => text.startsWith("interrupted")).length, 3);
  assert.equal(bed.notices.filter((text) => text.startsWith("snapshot")).length, 1);
  assert.equal(bed.notices.filter((text) => text === "resumed").length, 1);
});

Deno.test("a watch that runs again says so, also when nothing happens", async () => {
  await using bed = await Bed.start(["a"]);
  await bed.settled("a");
  bed.server.closeConnections();
  await bed.until(() => bed.notices.length === 3);
  assert.match(bed.notices[1]!, /^interrupted/);
  assert.equal(bed.notices[2], "resumed");
});

Deno.test("a bookmark moves the place to go on from", async () => {
  await using bed = await Bed.start(["a"]);
  await bed.settled("a");
  // Nothing that this follower sees happens, but the version advances and the past is forgotten.
  bed.server.store.put(plainPod({ name: "elsewhere-2", nodeName: "node-2" }));
  bed.server.store.compact();
  bed.server.bookmark();
  const version = bed.server.store.resourceVersion;
  await new Promise((resolve) => setTimeout(resolve, 100));
  bed.server.closeConnections();
  await bed.until(() => bed.notices.length === 2);
  await bed.settled("a");
  const last = bed.server.requests.at(-1);
  assert.equal(last?.verb, "watch");
  assert.match(last.target, new RegExp(`resourceVersion=${version}(&|$)`));
});

Deno.test("a forgotten history leads to a new list at once", async () => {
  await using bed = await Bed.start(["a", "b"]);
  await bed.settled("a", "b");
  bed.server.inject({ kind: "hang" }, { times: 1, verb: "watch" });
  bed.server.closeConnections();
  await bed.until(() => bed.server.requests.filter(({ verb }) => verb === "watch").length === 2);
  bed.server.store.delete("pods", "demo", "a");
  bed.server.store.put(plainPod({ name: "c" }));
  bed.server.store.compact();
  bed.server.closeConnections();
  await bed.settled("b", "c");
  assert.equal(bed.notices.at(-1), "snapshot 2");
});

Deno.test("missing rights are reported and asked for again", async () => {
  await using bed = await Bed.start(["a"], {}, (server) => server.forbid("list", "pods"));
  await bed.until(() => bed.notices.length >= 2);
  assert.match(bed.notices[0]!, /^interrupted: .* answered 403: pods is forbidden/);
  bed.server.allow("list", "pods");
  await bed.settled("a");
});

Deno.test("one unreadable object does not hide the others", async () => {
  const broken = plainPod({ name: "broken" });
  broken.metadata.annotations = { "a": 5 as unknown as string };
  await using bed = await Bed.start(["a"], {}, (server) => server.store.put(broken));
  await bed.settled("a");
  assert.match(bed.notices[0]!, /^unreadable: Not a pod: annotation "a" is 5/);
  broken.metadata.name = "broken-2";
  bed.server.store.put(broken);
  bed.server.store.put(plainPod({ name: "b" }));
  await bed.settled("a", "b");
  assert.match(bed.notices[2]!, /^unreadable/);
});

Deno.test("nonsense instead of a list or of events is an interruption", async () => {
  const faulty = [
    { kind: "body", body: '{"items":[]}' },
    { kind: "body", body: '{"metadata":{"resourceVersion":"1"},"items":{}}' },
  ] as const;
  await using bed = await Bed.start(["a"], {}, (server) => {
    for (const fault of faulty) server.inject(fault, { times: 1, verb: "list" });
    const event = `{"type":"ADDED","object":${JSON.stringify(plainPod({ name: "x" }))}}\n`;
    const notUtf8 = new TextEncoder().encode(event);
    notUtf8[event.indexOf('"x"') + 1] = 0xff;
    for (const body of ["nonsense\n", '{"type":"ADDED"}\n', '{"type":"AD', "[]\n", notUtf8]) {
      server.inject({ kind: "body", body }, { times: 1, verb: "watch" });
    }
  });
  await bed.settled("a");
  const interruptions = bed.notices.filter((text) => text.startsWith("interrupted"));
  assert.equal(interruptions.length, faulty.length + 5, bed.notices.join("\n"));
  assert.match(interruptions[0]!, /the answer is not a list$/);
  assert.match(interruptions[2]!, /is not an event: "nonsense"$/);
  assert.match(interruptions[6]!, /it is not UTF-8$/);
});

Deno.test("a server that ends every watch at once is not asked in a tight loop", async () => {
  await using bed = await Bed.start(["a"], { firstRetryMilliseconds: 50 }, (server) => {
    server.inject({ kind: "body", body: "" }, { verb: "watch" });
  });
  await bed.until(() => bed.notices.length === 1);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const count = bed.server.requests.filter(({ verb }) => verb === "watch").length;
  assert(count >= 2 && count <= 8, `${count} watches in 300 ms`);
});

Deno.test("watches end when told, also while the garbage collector runs all the time", async () => {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--allow-all",
      "--v8-flags=--gc-interval=200",
      new URL("support/watch_stops.ts", import.meta.url).pathname,
      "30",
    ],
    stdin: "null",
    stderr: "inherit",
  }).output();
  // Before, about one in six did not: fetch is deaf to its signal once its request was collected.
  assert.equal(new TextDecoder().decode(stdout).trim(), "30");
});
