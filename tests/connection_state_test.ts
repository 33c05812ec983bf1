import assert from "node:assert/strict";
import { KubernetesClient } from "../src/kubernetes/client.ts";
import { ConnectionState } from "../src/kubernetes/connection_state.ts";
import { ApiError } from "../src/kubernetes/errors.ts";
import type { ClusterAccess } from "../src/kubernetes/kubeconfig.ts";
import { parsePod } from "../src/kubernetes/pod.ts";
import { watch } from "../src/kubernetes/watch.ts";
import { libc } from "../src/linux/libc.ts";
import { ApiServer, htmlFault } from "./support/api_server.ts";
import { makeAuthority } from "./support/certificates.ts";
import { brokenListener } from "./support/http_server.ts";
import { plainPod } from "./support/pods.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const pod = { namespace: "demo", name: "plain-1" };
const authority = await makeAuthority();

const start = () => ApiServer.start({ authority, objects: [plainPod()] });

function client(server: ApiServer, state: ConnectionState, changes: Partial<ClusterAccess> = {}) {
  return new KubernetesClient({
    server: server.url,
    certificateAuthority: server.certificateAuthority,
    token: server.token,
    insecureSkipTlsVerify: false,
    ...changes,
  }, { state, requestTimeoutMilliseconds: 500 });
}

Deno.test("each kind of failure is told from the others and over with the next answer", async (t) => {
  await using server = await start();
  let now = 1000;
  const state = new ConnectionState(() => now++);
  assert.deepEqual([state.problem, state.lastSuccess, state.lastFailure], [
    undefined,
    undefined,
    undefined,
  ]);
  const stranger = await makeAuthority("stranger");
  const gone = brokenListener("silent");
  const goneUrl = `https://127.0.0.1:${gone.port}`;
  gone.close();
  const rows: [string, Parameters<ApiServer["inject"]>[0] | undefined, Partial<ClusterAccess>][] = [
    ["unauthorized", undefined, { token: "old" }],
    ["unavailable", { kind: "status", code: 503 }, {}],
    ["unavailable", { kind: "status", code: 429 }, {}],
    ["timeout", { kind: "hang" }, {}],
    ["unreachable", { kind: "close" }, {}],
    ["unreachable", undefined, { server: goneUrl }],
    ["content", htmlFault, {}],
    ["content", { kind: "status", code: 302 }, {}],
    ["tls", undefined, { certificateAuthority: stranger.certificate }],
    ["credentials", undefined, { tokenFile: "/nonexistent/token" }],
  ];
  for (const [kind, fault, changes] of rows) {
    await t.step(
      `${kind} ${JSON.stringify(fault ?? Object.keys(changes)).slice(0, 60)}`,
      async () => {
        server.clearFaults();
        if (fault !== undefined) server.inject(fault);
        using faulty = client(server, state, changes);
        await assert.rejects(faulty.getPod(pod));
        assert.equal(state.problem?.kind, kind, state.problem?.reason);
        assert.equal(state.problem, state.lastFailure);
        assert.equal(state.problem?.verb, "get");
        assert.equal(state.problemSince, state.problem?.time);
        const since = state.problemSince;
        await assert.rejects(faulty.getPod(pod));
        assert.equal(state.problemSince, since);
        assert(state.problem!.time > since!);
        server.clearFaults();
        using good = client(server, state);
        await good.getPod(pod);
        assert.equal(state.problem, undefined);
        assert.equal(state.problemSince, undefined);
        assert.equal(state.lastFailure?.kind, kind);
        assert.equal(state.lastSuccess, now - 1);
      },
    );
  }
});

Deno.test("a missing right is not a missing server", async () => {
  await using server = await start();
  const state = new ConnectionState();
  using followed = client(server, state);
  server.forbid("list", "pods");
  const stop = new AbortController();
  const notices = watch(followed, { path: "/api/v1/pods", parse: parsePod, signal: stop.signal });
  assert.equal((await notices.next()).value?.type, "interrupted");
  assert.equal(state.lastFailure?.kind, "forbidden");
  assert.deepEqual(state.forbidden, ["list"]);
  assert.equal(state.problem, undefined);
  await followed.getPod(pod);
  assert.deepEqual(state.forbidden, ["list"]);
  server.allow("list", "pods");
  assert.equal((await notices.next()).value?.type, "snapshot");
  assert.deepEqual(state.forbidden, []);
  stop.abort();
  await notices.return();
});

Deno.test("an answer that there is no such pod is an answer", async () => {
  await using server = await start();
  const state = new ConnectionState();
  using asking = client(server, state);
  await assert.rejects(asking.getPod({ namespace: "demo", name: "none" }), ApiError);
  assert.equal(state.problem, undefined);
  assert(state.lastSuccess !== undefined);
});

Deno.test("a request that its caller ends proves nothing", async () => {
  await using server = await start();
  const state = new ConnectionState();
  using asking = client(server, state);
  server.inject({ kind: "hang" });
  await assert.rejects(asking.getPod(pod, AbortSignal.timeout(20)));
  assert.equal(state.lastFailure, undefined);
  assert.equal(state.lastSuccess, undefined);
});

Deno.test("a watch tells when it breaks, and with each event that it runs", async () => {
  await using server = await start();
  let now = 0;
  const state = new ConnectionState(() => now);
  using followed = client(server, state);
  const stop = new AbortController();
  const notices = watch(followed, {
    path: "/api/v1/pods",
    parse: parsePod,
    signal: stop.signal,
    firstRetryMilliseconds: 20,
  });
  await notices.next();
  const put = notices.next();
  while (server.watches === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  now = 5;
  server.store.put(plainPod({ name: "later" }));
  assert.equal((await put).value?.type, "put");
  assert.equal(state.lastSuccess, 5);
  const broken = notices.next();
  server.closeConnections();
  assert.equal((await broken).value?.type, "interrupted");
  assert.equal(state.problem?.kind, "unreachable", state.problem?.reason);
  assert.equal(state.problem?.verb, "watch");
  now = 7;
  const again = notices.next();
  while (server.watches === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  server.store.put(plainPod({ name: "even-later" }));
  await again;
  assert.equal(state.problem, undefined);
  assert.equal(state.lastSuccess, 7);
  stop.abort();
  await notices.return();
});
