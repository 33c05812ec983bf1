/**
 * Thousands of damaged calls: environment, arguments, configuration and pod, one in-process and one
 * with the compiled plugin. Whatever comes: one answer as the protocol has it, in time; no meshed pod is
 * passed through, and nothing is captured that is not a meshed pod.
 */
import assert from "node:assert/strict";
import { SocketServer } from "../installer/agent/socket_server.ts";
import type { ReceivedFinish } from "../src/agent/messages.ts";
import { CniErrorCode } from "../src/cni/errors.ts";
import { serve } from "../src/cni/serve.ts";
import { parsePod } from "../src/kubernetes/pod.ts";
import { libc } from "../src/linux/libc.ts";
import { createNamespace, type NamedNamespace, uniqueName } from "./support/topology.ts";
import { Call } from "../src/plugin/call.ts";
import { verbHandlers } from "../src/plugin/verbs.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { damageBytes, damageJson, damageText, Dice } from "./support/damage.ts";
import { nft } from "./support/nft.ts";
import {
  gatewayPod,
  initContainerPod,
  injectedPod,
  nativeSidecarPod,
  plainPod,
  type PodObject,
} from "./support/pods.ts";

const plugin = await compiledPlugin();
// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const encoder = new TextEncoder();
const codes: readonly number[] = Object.values(CniErrorCode);
const uid = "00000000-0000-4000-8000-000000000001";
const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=app-1;K8S_POD_UID=${uid}`;
const pods = [
  injectedPod({ uid }),
  injectedPod({ uid, form: "3" }),
  nativeSidecarPod({ uid, name: "app-1" }),
  gatewayPod({ uid, name: "app-1" }),
  initContainerPod({ uid, name: "app-1" }),
  plainPod({ uid, name: "app-1" }),
];

/** One call, and what is left whole of it. */
interface DamagedCall {
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: Uint8Array<ArrayBuffer>;
  /** What the node agent has for the pod. */
  readonly pod: Uint8Array<ArrayBuffer>;
  readonly isRequestWhole: boolean;
}

/** How a call ended. */
interface Ending {
  readonly exitCode: number;
  readonly stdout: string;
  readonly outcome?: ReceivedFinish["outcome"];
}

/** A pod's namespace, and a node agent that has the damaged pod. */
class Stage implements Disposable {
  readonly namespace: NamedNamespace = createNamespace(uniqueName("kuma-mutation-"));
  readonly folder = Deno.makeTempDirSync({ prefix: "kuma-test-mutation-" });
  readonly server: SocketServer;
  pod: Uint8Array<ArrayBuffer> = new Uint8Array();
  finished: ReceivedFinish | undefined;

  constructor() {
    Deno.chmodSync(this.folder, 0o700);
    this.server = new SocketServer(this.socket, {
      cached: () => undefined,
      // As the agent reads an answer of the API server.
      fetch: (request) => {
        const text = new TextDecoder("utf-8", { fatal: true }).decode(this.pod);
        const pod = parsePod(JSON.parse(text));
        const isAskedFor = pod.namespace === request.namespace && pod.name === request.name;
        return isAskedFor ? Promise.resolve(pod) : Promise.reject(new Error("Another pod"));
      },
    }, {
      finished: (request) => this.finished = request,
      podAnswered: () => {},
      failed: () => {},
    });
    this.server.ensureServing();
  }

  get socket(): string {
    return `${this.folder}/agent.sock`;
  }

  get config(): Record<string, unknown> {
    return {
      cniVersion: "1.1.0",
      name: "bed",
      type: "kuma-cni",
      log_level: "debug",
      engine: "nftables",
      lookup_timeout_seconds: 0.1,
      kubernetes: { kubeconfig: `${this.folder}/kubeconfig`, exclude_namespaces: ["kube-system"] },
      agent: { socket: this.socket },
      capabilities: { dns: true },
      runtimeConfig: { dns: { servers: ["10.96.0.10"] } },
      prevResult: { cniVersion: "1.1.0", ips: [{ address: "10.1.0.2/24" }], dns: {} },
    };
  }

  damagedCall(dice: Dice): DamagedCall {
    const env: Record<string, string> = {
      CNI_COMMAND: dice.once(3) ? dice.pick(["CHECK", "DEL", "STATUS", "GC", "VERSION"]) : "ADD",
      CNI_CONTAINERID: "e96a5a12",
      CNI_NETNS: this.namespace.path,
      CNI_IFNAME: "eth0",
      CNI_PATH: "/opt/cni/bin",
      CNI_ARGS: args,
    };
    // Most calls have one damage, in the pod more often than elsewhere.
    const where = dice.below(10);
    let isRequestWhole = true;
    if (where < 2) {
      isRequestWhole = false;
      const name = dice.pick(Object.keys(env));
      const netns = ["/proc/self/ns/net", "/proc/self/ns/mnt", "/", "/dev/null", "x", this.folder];
      if (name === "CNI_NETNS") env[name] = dice.pick(netns);
      else if (dice.once(4)) delete env[name];
      else env[name] = damageText(env[name]!, dice);
    }
    let config: unknown = this.config;
    if (where === 2 || where === 3) {
      isRequestWhole = false;
      config = damageJson(config, dice);
    }
    let stdin = encoder.encode(JSON.stringify(config));
    if (where === 4) {
      isRequestWhole = false;
      stdin = damageBytes(stdin, dice);
    }
    let pod: unknown = dice.pick(pods);
    if (where >= 5 && where < 9) pod = damageJson(pod, dice);
    if (where === 8) pod = damageWhatDecides(structuredClone(dice.pick(pods)), dice);
    let bytes = encoder.encode(JSON.stringify(pod));
    if (where === 9) bytes = damageBytes(bytes, dice);
    return { env, stdin, pod: bytes, isRequestWhole };
  }

  [Symbol.dispose](): void {
    this.server.close();
    this.namespace[Symbol.dispose]();
    Deno.removeSync(this.folder, { recursive: true });
  }
}

/** Damages what decides whether a pod is meshed, which chance alone meets seldom. */
function damageWhatDecides(pod: PodObject, dice: Dice): PodObject {
  const { annotations } = pod.metadata;
  const containers = [...pod.spec.containers, ...pod.spec.initContainers ?? []];
  const container = dice.pick(containers);
  if (dice.once(2)) container.name = damageText(container.name, dice);
  else if (annotations) {
    annotations["kuma.io/sidecar-injected"] = dice.pick(["TRUE", "True", " true", "true ", "yes"]);
  }
  return pod;
}

/** What the pod's JSON says to a reader who knows nothing of this project's code. */
function readsAs(bytes: Uint8Array<ArrayBuffer>): "meshed" | "other" | "unreadable" {
  // deno-lint-ignore no-explicit-any -- whatever is there
  let pod: any;
  try {
    pod = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    const names = (list: { name: unknown }[] | null) => (list ?? []).map(({ name }) => name);
    const init = names(pod.spec.initContainers ?? []);
    const all = [...names(pod.spec.containers), ...init];
    const injected = pod.metadata.annotations?.["kuma.io/sidecar-injected"] === "true";
    const isMeshed = injected && all.includes("kuma-sidecar") && !init.includes("kuma-init");
    return isMeshed ? "meshed" : "other";
  } catch {
    return "unreadable";
  }
}

function assertInvariants(call: DamagedCall, ending: Ending, what: string): void {
  const { env: { CNI_COMMAND: command = "" } } = call;
  const { exitCode, stdout, outcome } = ending;
  if (exitCode === 1) {
    const error = JSON.parse(stdout);
    assert.ok(codes.includes(error.code), `${what}: code ${error.code}`);
    assert.ok(error.code !== CniErrorCode.Internal, `${what}: ${stdout}`);
    assert.match(error.msg, /^[A-Z]/, what);
    assert.ok(stdout.length < 40_000, `${what}: ${stdout.length} characters`);
  } else {
    assert.equal(exitCode, 0, what);
    if (command === "ADD" || command === "VERSION") {
      assert.equal(typeof JSON.parse(stdout), "object", what);
    } else assert.equal(stdout, "", what);
  }
  if (outcome === undefined) return;
  const kind = readsAs(call.pod);
  if (outcome.result === "redirected") assert.equal(kind, "meshed", `${what}: captured`);
  if (outcome.result === "skipped" && call.isRequestWhole) {
    assert.equal(kind, "other", `${what}: skipped, ${outcome.reason}`);
  }
  if (command === "ADD" && exitCode === 0) {
    assert.ok(outcome.result === "redirected" || outcome.result === "skipped", what);
  }
}

/** Runs calls one after the other, and counts how they ended. */
async function runAll(
  stage: Stage,
  seed: number,
  count: number,
  run: (call: DamagedCall) => Promise<Ending>,
): Promise<Map<string, number>> {
  const endings = new Map<string, number>();
  for (let index = 0; index < count; index++) {
    const call = stage.damagedCall(new Dice(seed + index));
    stage.pod = call.pod;
    stage.finished = undefined;
    const started = performance.now();
    const ending = await run(call);
    const what = `seed ${seed + index}, ${JSON.stringify(call.env.CNI_COMMAND?.slice(0, 20))}`;
    const milliseconds = performance.now() - started;
    assert.ok(milliseconds < 8000, `${what} took ${milliseconds} ms`);
    const outcome = stage.finished as ReceivedFinish | undefined;
    assertInvariants(
      call,
      { ...ending, ...(outcome?.outcome === undefined ? {} : { outcome: outcome.outcome }) },
      what,
    );
    const kind = outcome?.outcome?.result ?? `exit ${ending.exitCode}`;
    endings.set(kind, (endings.get(kind) ?? 0) + 1);
  }
  return endings;
}

function openDescriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

/** All tables of the host's own namespace, in which nothing may be captured. */
function hostTables(): string {
  const { stdout } = new Deno.Command("nft", { args: ["list", "tables"] }).outputSync();
  return new TextDecoder().decode(stdout);
}

Deno.test("thousands of damaged calls, in-process", async () => {
  using stage = new Stage();
  const host = hostTables();
  const run = async ({ env, stdin }: DamagedCall): Promise<Ending> => {
    let call: Call | undefined;
    const answer = await serve({
      variable: (name) => env[name],
      input: () => stdin,
      about: "kuma-cni",
    }, verbHandlers((request) => call = new Call(request)));
    await call?.deliver(answer.error);
    const stdout = new TextDecoder().decode(answer.stdout);
    return { exitCode: answer.exitCode, stdout };
  };
  await runAll(stage, 1, 20, run);
  const descriptors = openDescriptors();
  const endings = await runAll(stage, 100, 2000, run);
  for (const kind of ["redirected", "skipped", "failed", "done"]) {
    assert.ok((endings.get(kind) ?? 0) > 20, `${kind}: ${JSON.stringify([...endings])}`);
  }
  assert.ok(openDescriptors() <= descriptors + 2, "descriptors stay open");
  assert.match(nft(stage.namespace, ["list", "tables"]), /kuma_mesh/);
  assert.equal(hostTables(), host);
});

Deno.test("hundreds of damaged calls of the compiled plugin", async () => {
  using stage = new Stage();
  const host = hostTables();
  const endings = await runAll(stage, 1_000_000, 200, async ({ env, stdin }) => {
    const child = new Deno.Command(plugin, {
      env: { ...env },
      clearEnv: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const output = child.output();
    const writer = child.stdin.getWriter();
    await writer.write(stdin).then(() => writer.close()).catch(() => {});
    const { code, stdout, stderr } = await output;
    const decoder = new TextDecoder();
    // Without CNI_COMMAND it introduces itself there.
    if (env.CNI_COMMAND) assert.equal(decoder.decode(stderr), "");
    return { exitCode: code, stdout: decoder.decode(stdout) };
  });
  assert.ok((endings.get("redirected") ?? 0) > 10, JSON.stringify([...endings]));
  assert.equal(hostTables(), host);
});
