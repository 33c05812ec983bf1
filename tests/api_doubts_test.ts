/** States in which all is installed and meshed pods may not start: told before a pod finds them out. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { ApiHealth } from "../installer/agent/api_health.ts";
import { DoubtLog } from "../installer/agent/doubt_log.ts";
import { type Doubt, doubtsOf, tokenInKubeconfig } from "../installer/cluster/doubts.ts";
import type { ServiceContext } from "../installer/loop/service.ts";
import { parseSettings } from "../installer/settings/settings.ts";
import { ConnectionState } from "../src/kubernetes/connection_state.ts";
import { ApiError } from "../src/kubernetes/errors.ts";
import { formatKubeconfig } from "../src/kubernetes/kubeconfig_format.ts";
import { ApiServer } from "./support/api_server.ts";
import {
  InstallerHost,
  primaryList,
  quietLog,
  type RunningInstaller,
} from "./support/installer_host.ts";
import "./support/load_libc.ts";
import { plainPod } from "./support/pods.ts";

const list = "10-calico.conflist";

/** A token that says when it expires. */
function tokenUntil(time: number): string {
  const part = (value: unknown) =>
    new TextEncoder().encode(JSON.stringify(value)).toBase64({
      alphabet: "base64url",
      omitPadding: true,
    });
  return `${part({ alg: "RS256" })}.${part({ exp: Math.floor(time / 1000) })}.c2lnbmF0dXJl`;
}

Deno.test("each way in which the API server fails is a doubt of its own, once it lasts", () => {
  const codesAfter = (error: unknown, patience = 0) => {
    let now = 1000;
    const state = new ConnectionState(() => now);
    state.failed("get", error);
    now += 2999;
    return doubtsOf(state, undefined, now, patience).map(({ code }) => code);
  };
  const status = (code: number) =>
    new ApiError(`answered ${code}`, { kind: "status", status: code, temporary: true });
  deepEqual(codesAfter(status(401)), ["api-unauthorized"]);
  deepEqual(codesAfter(status(503)), ["api-unavailable"]);
  deepEqual(codesAfter(status(403)), ["api-forbidden"]);
  deepEqual(codesAfter(status(404)), [], "no such pod is an answer");
  deepEqual(codesAfter(new ApiError("refused", { kind: "connection", temporary: true })), [
    "api-unreachable",
  ]);
  deepEqual(codesAfter(new Error("no token")), ["api-credentials"]);
  deepEqual(codesAfter(status(503), 3000), [], "a moment is no trouble");
  const state = new ConnectionState();
  state.failed("watch", status(403));
  deepEqual(doubtsOf(state, undefined, Date.now(), 0), [], "the plugin needs only to get pods");
});

Deno.test("a token that expires soon and is not renewed, and one that has expired, are told", () => {
  const now = Date.UTC(2030, 0, 1);
  const codes = (expires: number | undefined, issued = expires && expires - 3600_000) =>
    doubtsOf(new ConnectionState(), { issued, expires }, now, 0).map(({ code }) => code);
  deepEqual(codes(undefined), []);
  deepEqual(codes(now + 6 * 60_000), []);
  deepEqual(codes(now + 5 * 60_000), ["token-expires"]);
  deepEqual(codes(now + 5 * 60_000, now - 5 * 60_000), [], "kubelet renews it in three minutes");
  deepEqual(codes(now), ["token-expired"]);
  match(
    doubtsOf(new ConnectionState(), { issued: 0, expires: now - 1000 }, now, 0)[0]!.text,
    /has expired at 2029-12-31T23:59:59Z/,
  );
  const path = Deno.makeTempFileSync({ prefix: "kuma-test-" });
  try {
    const server = "https://127.0.0.1:1";
    const certificateAuthority = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const write = (token: string) =>
      Deno.writeTextFileSync(path, formatKubeconfig({ server, certificateAuthority, token }));
    write(tokenUntil(now));
    equal(tokenInKubeconfig(path)?.expires, now);
    write("opaque");
    equal(tokenInKubeconfig(path)?.expires, undefined);
    equal(tokenInKubeconfig(`${path}-missing`), undefined);
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("a doubt is told when it comes, seldom while it stays, and when it is over", () => {
  const lines: string[] = [];
  let now = 0;
  const log = new DoubtLog({
    info: (text: string) => lines.push(text),
    warn: (text: string) => lines.push(text),
  }, () => now);
  const doubt: Doubt = { code: "api-unreachable", text: "away" };
  for (; now < 9 * 60_000; now += 1000) log.update([doubt]);
  deepEqual(lines, ["away"]);
  log.update([]);
  deepEqual(lines, ["away", "Over after 540 s: away"]);
  // One that comes and goes is not told each time, and its end only when it was.
  for (let i = 0; i < 50; i++, now += 1000) log.update(i % 2 === 0 ? [doubt] : []);
  equal(lines.length, 4, lines.join("\n"));
});

Deno.test("while there is trouble or the right is missing, its end is looked for every ten seconds", async () => {
  const time = Date.now;
  let now = time();
  Date.now = () => now;
  try {
    for (const code of [403, 503]) {
      let asked = 0;
      const state = new ConnectionState(() => now);
      const context: ServiceContext = {
        settings: parseSettings(() => undefined, { needsConfig: false }),
        log: quietLog(),
        paths: { kubeconfig: "/proc/none" } as ServiceContext["paths"],
        state: () => ({ ready: true, reason: "" }),
        liveness: () => ({ alive: true, reason: "" }),
      };
      const health = new ApiHealth(context, state, () => {
        asked++;
        throw new ApiError("no", { kind: "status", status: code, temporary: false });
      });
      const askedAfter = async (seconds: number) => {
        now += seconds * 1000;
        health.tick();
        await Promise.resolve();
        return asked;
      };
      equal(await askedAfter(59), 0, "nothing is wrong yet");
      equal(await askedAfter(1), 1);
      equal(await askedAfter(9), 1);
      equal(await askedAfter(1), 2, `${code} may be over`);
      state.succeeded("get");
      equal(await askedAfter(59), 2);
      state.failed("watch", new ApiError("no", { kind: "status", status: 403, temporary: false }));
      equal(await askedAfter(59), 2, "a missing right to watch is no trouble");
    }
  } finally {
    Date.now = time;
  }
});

async function answer(port: number, path: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return { status: response.status, text: await response.text() };
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

/** Waits until an address answers with this. */
async function untilAnswer(
  agent: RunningInstaller,
  port: number,
  path: string,
  pattern: RegExp,
): Promise<{ status: number; text: string }> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const found = await answer(port, path);
    if (pattern.test(found.text)) return found;
    ok(performance.now() < deadline, `${path} says: ${found.text}\n${agent.stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

Deno.test("an API server that fails shows in readiness, metrics, log and check, and its end, too", async () => {
  await using server = await ApiServer.start({
    objects: [plainPod()],
    token: tokenUntil(Date.now() + 120_000),
  });
  await using host = new InstallerHost();
  const port = freePort();
  host.writeSecret("ca.crt", server.certificateAuthority);
  host.writeSecret("token", server.token);
  host.writeConf(list, primaryList);
  const extra = {
    KUBERNETES_SERVICE_PORT: String(server.port),
    HEALTH_PORT: String(port),
    HEALTH_ADDRESS: "127.0.0.1",
    NODE_NAME: "node-1",
  };
  const agent = host.start(extra);
  await agent.until("ready", () => host.isReady);
  await agent.until("followed", () => agent.stderr.includes("Pods of this node are followed"));
  match(agent.stderr, /Starting.*"version":".*"runtime":"Deno .*"apiServer":"https:\/\/127/);
  match(
    (await answer(port, "/metrics")).text,
    /kuma_cni_build_info\{build=".*",runtime="Deno .*",version="\d.*"\} 1/,
  );
  // The token that is about to expire is told from the start.
  const soon = await untilAnswer(agent, port, "/readyz", /but: The token on the host expires at/);
  equal(soon.status, 200);
  match((await answer(port, "/metrics")).text, /kuma_cni_degraded\{reason="token-expires"\} 1/);

  server.inject({ kind: "status", code: 503 });
  server.closeConnections();
  const { status } = await untilAnswer(agent, port, "/readyz", /but: The API server cannot answer/);
  equal(status, 200, "a restart would not help");
  ok(host.isReady);
  match((await answer(port, "/metrics")).text, /kuma_cni_degraded\{reason="api-unavailable"\} 1/);
  await agent.until("told", () => /WARN.*The API server cannot answer now/.test(agent.stderr));
  const check = await host.run(["check", "--output", "json"], extra);
  equal(check.code, 0, check.stderr);
  match(JSON.parse(check.stdout).degraded.join("\n"), /The API server cannot answer now/);

  server.clearFaults();
  await agent.until(
    "over",
    () => /INFO.*Over after \d+ s: The API server cannot/.test(agent.stderr),
    60_000,
  );
  await untilAnswer(agent, port, "/metrics", /kuma_cni_degraded\{reason="token-expires"\} 1/);
  ok(!/api-unavailable/.test((await answer(port, "/metrics")).text));
  match(
    (await answer(port, "/metrics")).text,
    /kuma_cni_api_last_success_timestamp_seconds \d+/,
  );
  // The new token ends the other doubt.
  const token = tokenUntil(Date.now() + 3_600_000);
  host.writeSecret("token", token);
  await untilAnswer(agent, port, "/metrics", /^kuma_cni_degraded 0$/m);
});

Deno.test("check tells of an API server that is away, and says that all is installed", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  const { code, stdout } = await host.run(["check", "--output", "json"]);
  equal(code, 0, stdout);
  match(JSON.parse(stdout).degraded[0], /^The API server cannot be reached/);
});
