import assert from "node:assert/strict";
import { KubeconfigError } from "../src/kubernetes/kubeconfig.ts";
import { formatKubeconfig } from "../src/kubernetes/kubeconfig_format.ts";
import type { Pod } from "../src/kubernetes/pod.ts";
import { ApiPodSource } from "../src/pod/api_source.ts";
import { type LookupOptions, lookUpPod, PodLookupError } from "../src/pod/lookup.ts";
import { type PodReference, type PodSource, SourceUnavailableError } from "../src/pod/source.ts";
import { libc } from "../src/linux/libc.ts";
import { ApiServer, type ApiServerOptions, htmlFault } from "./support/api_server.ts";
import { makeAuthority } from "./support/certificates.ts";
import { brokenListener } from "./support/http_server.ts";
import { injectedPod, mirrorPod, plainPod } from "./support/pods.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const app = { namespace: "demo", name: "app-1", uid: "uid-1" };

/** An API server, a kubeconfig file and a source that reads it. */
class Bed implements AsyncDisposable {
  readonly kubeconfig: string;
  readonly source: ApiPodSource;
  readonly retries: string[] = [];

  private constructor(readonly server: ApiServer, readonly folder: string) {
    this.kubeconfig = `${folder}/kubeconfig`;
    this.source = new ApiPodSource(this.kubeconfig, 150);
  }

  static async start(options: ApiServerOptions = {}): Promise<Bed> {
    const server = await ApiServer.start({ objects: [injectedPod({ uid: "uid-1" })], ...options });
    const bed = new Bed(server, await Deno.makeTempDir({ prefix: "kuma-test-" }));
    await server.writeKubeconfig(bed.kubeconfig);
    return bed;
  }

  lookUp(options: LookupOptions = {}, reference: PodReference = app): Promise<Pod> {
    return lookUpPod(reference, [this.source], this.options(options));
  }

  options(options: LookupOptions): LookupOptions {
    return {
      timeoutSeconds: 3,
      settleSeconds: 0.3,
      onRetry: ({ error }) => this.retries.push(error.message),
      ...options,
    };
  }

  get gets(): number {
    return this.server.requests.filter(({ verb }) => verb === "get").length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.source.close();
    await this.server.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

async function failureOf(work: Promise<unknown>): Promise<PodLookupError> {
  try {
    await work;
  } catch (error) {
    assert(error instanceof PodLookupError, String(error));
    return error;
  }
  assert.fail("The pod was found");
}

/** Milliseconds that work takes. */
async function duration(work: Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work;
  return performance.now() - started;
}

Deno.test("a pod is found with one request", async () => {
  await using bed = await Bed.start();
  assert.equal((await bed.lookUp()).uid, "uid-1");
  assert.equal(bed.gets, 1);
  assert.deepEqual(bed.retries, []);
});

Deno.test("what can heal is asked for again", async (t) => {
  const faults = [
    { kind: "status", code: 500 },
    { kind: "status", code: 503 },
    { kind: "status", code: 429 },
    { kind: "close" },
    { kind: "cut", afterBytes: 200 },
    { kind: "hang" },
  ] as const;
  for (const fault of faults) {
    await t.step(JSON.stringify(fault), async () => {
      await using bed = await Bed.start();
      bed.server.inject(fault, { times: 2 });
      assert.equal((await bed.lookUp()).uid, "uid-1");
      assert.equal(bed.gets, 3);
      assert.equal(bed.retries.length, 2);
    });
  }
});

Deno.test("a server that starts late is waited for", async () => {
  const authority = await makeAuthority();
  await using bed = await Bed.start({ authority });
  const { port, token } = bed.server;
  await bed.server.close();
  const found = bed.lookUp({ timeoutSeconds: 5 });
  await new Promise((resolve) => setTimeout(resolve, 250));
  const objects = [injectedPod({ uid: "uid-1" })];
  await using _late = await ApiServer.start({ port, token, authority, objects });
  assert.equal((await found).uid, "uid-1");
  assert(bed.retries.length > 0);
});

Deno.test("a replaced authority is read anew", async () => {
  await using bed = await Bed.start();
  const { certificate } = await makeAuthority("old");
  const text = bed.server.kubeconfig({ certificateAuthority: certificate });
  await Deno.writeTextFile(bed.kubeconfig, text);
  assert.equal((await failureOf(bed.lookUp())).problem, "certificate");
  await bed.server.writeKubeconfig(bed.kubeconfig);
  assert.equal((await bed.lookUp()).uid, "uid-1");
});

Deno.test("the wait that the server wishes is respected, up to the look-up's own bound", async () => {
  await using bed = await Bed.start();
  bed.server.inject({ kind: "status", code: 429, retryAfterSeconds: 1 }, { times: 1 });
  const time = await duration(bed.lookUp());
  assert(time >= 1000 && time < 2000, `${time} ms`);
  bed.server.inject({ kind: "status", code: 429, retryAfterSeconds: 3600 }, { times: 1 });
  const started = performance.now();
  const error = await failureOf(bed.lookUp());
  assert(performance.now() - started < 1000);
  assert.deepEqual([error.problem, error.temporary], ["unreachable", true]);
});

Deno.test("what cannot heal is reported at once, with the fix", async (t) => {
  await t.step("missing rights", async () => {
    await using bed = await Bed.start();
    bed.server.forbid("get", "pods");
    const error = await failureOf(bed.lookUp());
    assert.deepEqual([error.problem, error.temporary], ["forbidden", false]);
    assert.match(
      error.message,
      /^Pod look-up failed after 1 attempt in 0\.\d s: Could not get pod/,
    );
    assert.match(error.message, /cannot get resource "pods"/);
    assert.match(error.hint, /apiGroups: \[""\], resources: \["pods"\], verbs: \["get"\]/);
    assert.equal(bed.gets, 1);
  });
  await t.step("HTML", async () => {
    await using bed = await Bed.start();
    bed.server.inject(htmlFault);
    const error = await failureOf(bed.lookUp());
    assert.deepEqual([error.problem, error.temporary], ["invalid-answer", false]);
    assert.match(error.hint, /clusters\[\].cluster.server/);
    assert.equal(bed.gets, 1);
  });
  await t.step("malformed pod", async () => {
    await using bed = await Bed.start();
    bed.server.inject({ kind: "body", body: '{"kind":"Pod","metadata":[]}' });
    const error = await failureOf(bed.lookUp());
    assert.deepEqual([error.problem, error.temporary], ["invalid-answer", false]);
    assert.match(error.message, /"metadata" is \[\], expected an object$/);
    assert.equal(bed.gets, 1);
  });
  await t.step("another authority", async () => {
    await using bed = await Bed.start();
    const { certificate } = await makeAuthority("old");
    const text = bed.server.kubeconfig({ certificateAuthority: certificate });
    await Deno.writeTextFile(bed.kubeconfig, text);
    const error = await failureOf(bed.lookUp());
    assert.deepEqual([error.problem, error.temporary], ["certificate", false]);
    assert.match(error.hint, /"certificate-authority-data" of the kubeconfig is not the authority/);
    assert.match(error.message, /after 1 attempt /);
  });
  await t.step("no kubeconfig", async () => {
    await using bed = await Bed.start();
    await Deno.remove(bed.kubeconfig);
    const error = await failureOf(bed.lookUp());
    assert.deepEqual([error.problem, error.temporary], ["kubeconfig", false]);
    assert(error.cause instanceof KubeconfigError);
    assert.match(error.hint, /install-cni/);
  });
  await t.step("impossible name", async () => {
    await using bed = await Bed.start();
    const error = await failureOf(bed.lookUp({}, { namespace: "..", name: "x" }));
    assert.equal(error.temporary, false);
    assert.equal(bed.server.requests.length, 0);
  });
});

Deno.test("a refused token is waited for, since it dies with the installer that wrote it", async (t) => {
  await t.step("new token in the kubeconfig", async () => {
    await using bed = await Bed.start();
    await bed.lookUp();
    bed.server.rotateToken();
    await bed.server.writeKubeconfig(bed.kubeconfig);
    assert.equal((await bed.lookUp()).uid, "uid-1");
    assert.equal(bed.gets, 3);
  });
  await t.step("the next installer writes a new one late", async () => {
    await using bed = await Bed.start();
    bed.server.rotateToken();
    const found = bed.lookUp();
    setTimeout(() => bed.server.writeKubeconfig(bed.kubeconfig), 1000);
    assert.equal((await found).uid, "uid-1");
    assert(bed.gets >= 4 && bed.gets <= 12, `${bed.gets} requests`);
  });
  await t.step("same token for ever", async () => {
    await using bed = await Bed.start();
    bed.server.rotateToken();
    const error = await failureOf(bed.lookUp({ timeoutSeconds: 1 }));
    assert.deepEqual([error.problem, error.temporary], ["unauthorized", true]);
    assert.match(error.message, /attempts in .*limit 1 s.* answered 401: Unauthorized$/);
    assert.match(error.hint, /^The token in the kubeconfig is expired/);
  });
  await t.step("server that refuses a good token for a moment", async () => {
    await using bed = await Bed.start();
    bed.server.inject({ kind: "status", code: 401, reason: "Unauthorized" }, { times: 1 });
    assert.equal((await bed.lookUp()).uid, "uid-1");
  });
  await t.step("kubeconfig gone meanwhile", async () => {
    await using bed = await Bed.start();
    await bed.lookUp();
    bed.server.rotateToken();
    await Deno.remove(bed.kubeconfig);
    const milliseconds = await duration(
      failureOf(bed.lookUp()).then(({ problem }) => assert.equal(problem, "unauthorized")),
    );
    assert(milliseconds < 1000, "There is nothing to wait for");
  });
});

Deno.test("a missing pod is asked for again for a short while", async (t) => {
  await t.step("it comes", async () => {
    await using bed = await Bed.start();
    bed.server.store.delete("pods", "demo", "app-1");
    const found = bed.lookUp({ settleSeconds: 2 });
    setTimeout(() => bed.server.store.put(injectedPod({ uid: "uid-1" })), 150);
    assert.equal((await found).uid, "uid-1");
  });
  await t.step("it does not", async () => {
    await using bed = await Bed.start();
    bed.server.store.delete("pods", "demo", "app-1");
    const started = performance.now();
    const error = await failureOf(bed.lookUp());
    assert(performance.now() - started < 1000);
    assert.deepEqual([error.problem, error.temporary], ["not-found", true]);
    assert(bed.gets >= 3, `${bed.gets} requests`);
    assert.match(error.hint, /^The pod was deleted, or the kubeconfig is of another cluster$/);
  });
  await t.step("it is not one of the cluster", async () => {
    await using bed = await Bed.start();
    const error = await failureOf(bed.lookUp({}, { namespace: "db", name: "db" }));
    assert.match(error.hint, /Podman or nerdctl.*network_config_dir.*cni_netconfpath/);
  });
});

Deno.test("the UID must be that of the runtime", async (t) => {
  await t.step("no UID from the runtime", async () => {
    await using bed = await Bed.start();
    assert.equal((await bed.lookUp({}, { namespace: "demo", name: "app-1" })).uid, "uid-1");
  });
  await t.step("an older pod of the same name", async () => {
    await using bed = await Bed.start();
    const error = await failureOf(bed.lookUp({}, { ...app, uid: "uid-2" }));
    assert.deepEqual([error.problem, error.temporary], ["stale", true]);
    assert.match(
      error.message,
      /has the UID "uid-1", but .* starting the one with the UID "uid-2"/,
    );
    assert(bed.gets >= 3, `${bed.gets} requests`);
  });
  await t.step("the new pod appears", async () => {
    await using bed = await Bed.start();
    const found = bed.lookUp({ settleSeconds: 2 }, { ...app, uid: "uid-2" });
    setTimeout(() => bed.server.store.put(injectedPod({ uid: "uid-2" })), 120);
    assert.equal((await found).uid, "uid-2");
  });
  await t.step("the mirror of a static pod", async () => {
    await using bed = await Bed.start();
    const hash = "6e9d2a4f0c1b8e7d5a3f2b1c0d9e8f7a";
    bed.server.store.put(mirrorPod(hash, { name: "static-1", namespace: "demo" }));
    const pod = await bed.lookUp({}, { namespace: "demo", name: "static-1", uid: hash });
    assert.notEqual(pod.uid, hash);
    const other = { namespace: "demo", name: "static-1", uid: "f".repeat(32) };
    assert.equal((await failureOf(bed.lookUp({}, other))).problem, "stale");
  });
});

Deno.test("the whole look-up is bounded", async (t) => {
  for (const fault of [{ kind: "hang" }, { kind: "status", code: 500 }] as const) {
    await t.step(fault.kind, async () => {
      await using bed = await Bed.start();
      bed.server.inject(fault);
      const started = performance.now();
      const error = await failureOf(bed.lookUp({ timeoutSeconds: 0.6 }));
      const time = performance.now() - started;
      assert(time < 900, `${time} ms`);
      assert.deepEqual([error.problem, error.temporary], ["unreachable", true]);
      assert.match(error.message, /\(limit 0\.6 s\): Could not get pod "demo\/app-1"/);
      assert(bed.gets > 1);
    });
  }
});

/** A source that answers from a list, then with its last entry for ever. */
function scripted(name: string, answers: readonly (Pod | Error)[]): PodSource & { asked: number } {
  return {
    name,
    asked: 0,
    get() {
      const answer = answers[Math.min(this.asked++, answers.length - 1)];
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer as Pod);
    },
  };
}

const cached: Pod = {
  namespace: "demo",
  name: "app-1",
  uid: "uid-1",
  annotations: {},
  containerNames: ["cached"],
  initContainerNames: [],
};

Deno.test("sources are asked in order", async (t) => {
  await t.step("the first one has it", async () => {
    await using bed = await Bed.start();
    const pod = await lookUpPod(app, [scripted("agent", [cached]), bed.source]);
    assert.deepEqual(pod.containerNames, ["cached"]);
    assert.equal(bed.gets, 0);
  });
  await t.step("an unavailable one is not asked again", async () => {
    await using bed = await Bed.start();
    bed.server.inject({ kind: "status", code: 500 }, { times: 2 });
    const agent = scripted("agent", [new SourceUnavailableError("Agent is away")]);
    const pod = await lookUpPod(app, [agent, bed.source], bed.options({}));
    assert.equal(pod.uid, "uid-1");
    assert.equal(agent.asked, 1);
    assert.equal(bed.gets, 3);
  });
  await t.step("an outdated one is overruled within the same attempt", async () => {
    await using bed = await Bed.start();
    const agent = scripted("agent", [{ ...cached, uid: "uid-0" }]);
    const pod = await lookUpPod(app, [agent, bed.source], bed.options({}));
    assert.deepEqual(pod.containerNames, ["kuma-sidecar", "app"]);
    assert.equal(bed.gets, 1);
    assert.deepEqual(bed.retries, []);
  });
  await t.step("one that catches up helps where the other has no rights", async () => {
    await using bed = await Bed.start();
    bed.server.forbid("get", "pods");
    const agent = scripted("agent", [{ ...cached, uid: "uid-0" }, cached]);
    const pod = await lookUpPod(app, [agent, bed.source], bed.options({}));
    assert.deepEqual(pod.containerNames, ["cached"]);
  });
  await t.step("none is left", async () => {
    const agent = scripted("agent", [new SourceUnavailableError("Agent is away")]);
    const error = await failureOf(lookUpPod(app, [agent]));
    assert.deepEqual([error.problem, error.temporary], ["unreachable", true]);
    assert.match(error.message, /Agent is away$/);
  });
  await t.step("there is none", async () => {
    assert.match((await failureOf(lookUpPod(app, []))).message, /There is no source of pods$/);
  });
  await t.step("one that never answers is left behind", async () => {
    const deaf: PodSource = { name: "agent", get: () => new Promise(() => {}) };
    const error = await failureOf(lookUpPod(app, [deaf], { timeoutSeconds: 0.2 }));
    assert.match(error.message, /Source "agent" did not answer in time$/);
  });
});

Deno.test("the waits between attempts grow and differ", async () => {
  await using bed = await Bed.start();
  bed.server.store.put(plainPod({ name: "app-1", uid: "uid-1" }));
  const delays: number[][] = [];
  for (let run = 0; run < 2; run++) {
    bed.server.clearFaults();
    bed.server.inject({ kind: "status", code: 500 }, { times: 3 });
    const row: number[] = [];
    await bed.lookUp({ onRetry: ({ delayMilliseconds }) => row.push(delayMilliseconds) });
    delays.push(row);
  }
  for (const row of delays) {
    row.forEach((delay, at) => {
      assert(delay >= 50 * 2 ** at && delay <= 100 * 2 ** at, `${at}: ${delay} ms`);
    });
  }
  assert.notDeepEqual(delays[0], delays[1]);
});

Deno.test("a process without descriptors may try again, nothing is wrong with the kubeconfig", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  const silent = brokenListener("reset");
  try {
    const authority = await makeAuthority();
    const kubeconfig = `${folder}/kubeconfig`;
    await Deno.writeTextFile(
      kubeconfig,
      formatKubeconfig({
        server: `https://127.0.0.1:${silent.port}`,
        certificateAuthority: authority.certificate,
        token: "t",
      }),
    );
    const script = new URL("support/out_of_descriptors.ts", import.meta.url).pathname;
    const { stdout, stderr } = await new Deno.Command("sh", {
      args: [
        ...["-c", 'ulimit -n 120 && exec "$@"', "sh"],
        ...[Deno.execPath(), "run", "--quiet", "--allow-all", script, kubeconfig],
      ],
    }).output();
    const text = new TextDecoder().decode(stdout);
    assert.notEqual(text, "", new TextDecoder().decode(stderr));
    const [first, second] = text.trim().split("\n").map((line) => JSON.parse(line));
    assert.equal(first.result.temporary, true, text);
    assert.match(first.result.message, /the file cannot be read: .*EMFILE/);
    assert.match(first.result.hint, /has run out of open files or memory/);
    assert.match(second.retries[0], /EMFILE/);
    assert.equal(second.result.problem, "unreachable", "the second attempt reads the file");
  } finally {
    silent.close();
    await Deno.remove(folder, { recursive: true });
  }
});
