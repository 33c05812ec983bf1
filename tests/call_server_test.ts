/** Calls that come over the agent's socket: served by the plugin's own code, or left to it. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { CompiledRules } from "../installer/agent/compiled_rules.ts";
import { CallServer } from "../installer/agent/call_server.ts";
import { type CallAgent, type HandBackReason, serveCall } from "../installer/agent/served_call.ts";
import type { CallOutcome, PodRequest } from "../src/agent/messages.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { EventPoll } from "../src/linux/event_poll.ts";
import { FileDescriptor, loadFunctions, openForReading } from "../src/linux/libc.ts";
import { withNetworkNamespace } from "../src/linux/network_namespace.ts";
import { withNetworkNamespaceLock } from "../src/linux/network_namespace_lock.ts";
import { acceptNext, peerUser, receiveFirst } from "../src/linux/unix_stream.ts";
import type { LogRecord } from "../src/log/log.ts";
import { parsePod, type Pod } from "../src/kubernetes/pod.ts";
import { parseAnswer, type ShimAnswer } from "../src/shim/words.ts";
import "./support/load_libc.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import { callAgent, requestOf, type ShimCall, ShimClient } from "./support/shim_client.ts";
import { createNamespace } from "./support/topology.ts";

const meshed = injectedPod({ name: "meshed", uid: "u-meshed" });
const plain = plainPod({ name: "plain", uid: "u-plain" });
const absent = injectedPod({ name: "absent", uid: "u-absent" });

/** A served socket in a folder of its own, and what the agent was told. */
class Served implements AsyncDisposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "kuma-test-calls-" });
  readonly path = `${this.folder}/call.sock`;
  readonly records: LogRecord[] = [];
  readonly outcomes: CallOutcome[] = [];
  readonly entries: unknown[] = [];
  readonly failures: string[] = [];
  listening = 0;
  readonly handedBack: HandBackReason[] = [];
  readonly rules = new CompiledRules();
  served = 0;
  mayCapture = true;
  fetch: (request: PodRequest, signal: AbortSignal) => Promise<Pod> = () =>
    Promise.reject(new Error("No such pod"));
  readonly server: CallServer;

  constructor(limits: ConstructorParameters<typeof CallServer>[3] = {}) {
    Deno.chmodSync(this.folder, 0o700);
    this.server = new CallServer(
      this.path,
      (request, from) => serveCall(request, from, this.#agent()),
      {
        failed: (cause) => this.failures.push(cause),
        listening: () => {
          assert.ok(existsSync(this.path));
          this.listening++;
        },
      },
      limits,
    );
    this.server.ensureServing();
  }

  #agent(): CallAgent {
    const known = [meshed, plain].map((pod) => parsePod(pod));
    return {
      pods: {
        cached: ({ name, uid }) => known.find((pod) => pod.name === name && pod.uid === uid),
        fetch: (request, signal) => this.fetch(request, signal),
      },
      rules: this.rules,
      mayCapture: this.mayCapture,
      podAnswered: () => {},
      stateFolder: this.folder,
      finished: ({ records, outcome }, entry) => {
        this.records.push(...records);
        if (outcome !== undefined) this.outcomes.push(outcome);
        if (entry !== undefined) this.entries.push(entry);
      },
      served: () => this.served++,
      handedBack: (reason) => this.handedBack.push(reason),
      lost: (error) => {
        throw error;
      },
    };
  }

  /** Waits until nothing is held any more; what a test leaves behind shows here. */
  async settled(): Promise<void> {
    for (let i = 0; this.server.size > 0 && i < 1000; i++) await sleep(1);
    assert.deepEqual([this.server.size, this.server.heldBytes], [0, 0]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

const { dup } = loadFunctions({ dup: { parameters: ["i32"], result: "i32" } });

// Loaded once for the process, which no test shall be blamed for.
new EventPoll().close();
{
  using nothing = openForReading("/dev/null");
  for (const load of [acceptNext, peerUser, receiveFirst]) {
    try {
      load(nothing, new Uint8Array(1));
    } catch { /* It is no socket. */ }
  }
}

function call(
  command: string,
  pod: PodObject | undefined,
  netns = "",
  network: Record<string, unknown> = {},
): ShimCall {
  const { namespace = "", name = "", uid = "" } = pod?.metadata ?? {};
  return {
    environment: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: "c1",
      CNI_NETNS: netns,
      CNI_IFNAME: "eth0",
      CNI_PATH: "/opt/cni/bin",
      CNI_ARGS: pod === undefined
        ? ""
        : `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name};K8S_POD_UID=${uid}`,
    },
    input: JSON.stringify({
      cniVersion: "1.1.0",
      name: "net",
      type: "kuma-cni",
      log_level: "info",
      kubernetes: { exclude_namespaces: ["kube-system"] },
      prevResult: { cniVersion: "1.1.0", ips: [], extra: 1.50 },
      ...network,
    }),
  };
}

function answered(answer: ShimAnswer): { exitCode: number; stdout: string; stderr: string } {
  assert.equal(answer.kind, "answered");
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { ...answer, stdout: text(answer.stdout), stderr: text(answer.stderr) } as never;
}

function takeRules(netns: string): boolean {
  return withNetworkNamespace(netns, () => new NftablesEngine().remove());
}

const sleep = (milliseconds: number) => new Promise((r) => setTimeout(r, milliseconds));

Deno.test("a meshed pod's rules are written from the agent, prevResult comes back untouched", async () => {
  await using served = new Served();
  using netns = createNamespace();
  const { exitCode, stdout, stderr } = answered(
    await callAgent(served.path, call("ADD", meshed, netns.path)),
  );
  assert.deepEqual([exitCode, stderr], [0, ""]);
  assert.equal(stdout, '{"cniVersion":"1.1.0","ips":[],"extra":1.5}');
  const check = answered(await callAgent(served.path, call("CHECK", meshed, netns.path)));
  assert.deepEqual([check.exitCode, check.stdout], [0, ""]);
  assert.ok(takeRules(netns.path), "the rules must be there");
  const broken = answered(await callAgent(served.path, call("CHECK", meshed, netns.path)));
  assert.equal(broken.exitCode, 1);
  assert.equal(JSON.parse(broken.stdout).code, 102);
  await served.settled();
  assert.deepEqual(served.outcomes.map(({ command, result }) => [command, result]), [
    ["ADD", "redirected"],
    ["CHECK", "done"],
    ["CHECK", "failed"],
  ]);
  assert.deepEqual([served.served, served.handedBack, served.failures], [3, [], []]);
  assert.ok(
    served.records.some(({ logger, message }) =>
      logger === "kuma-cni" && message === "Pod's traffic is redirected to its sidecar"
    ),
  );
});

Deno.test("pods that are not captured are answered without capabilities, meshed ones are handed back", async () => {
  await using served = new Served();
  served.mayCapture = false;
  using netns = createNamespace();
  const excluded = { ...plain, metadata: { ...plain.metadata, namespace: "kube-system" } };
  for (const pod of [excluded, plain]) {
    assert.equal(
      answered(await callAgent(served.path, call("ADD", pod, netns.path))).exitCode,
      0,
    );
  }
  assert.deepEqual(await callAgent(served.path, call("ADD", meshed, netns.path)), {
    kind: "run-it-yourself",
  });
  for (const verb of ["DEL", "GC", "STATUS"]) {
    const { exitCode, stdout } = answered(await callAgent(served.path, call(verb, meshed)));
    assert.deepEqual([verb, exitCode, stdout], [verb, 0, ""]);
  }
  const version = answered(await callAgent(served.path, call("VERSION", undefined)));
  assert.ok(JSON.parse(version.stdout).supportedVersions.includes("1.1.0"));
  await served.settled();
  assert.deepEqual(served.handedBack, ["capabilities"]);
  assert.equal(takeRules(netns.path), false, "nothing may be written without the right to");
  // Of the call that went back nothing is told: the plugin tells it.
  assert.deepEqual(served.outcomes.map(({ command, result }) => [command, result]), [
    ["ADD", "skipped"],
    ["ADD", "skipped"],
    ["STATUS", "done"],
  ]);
  assert.ok(!served.records.some(({ fields }) => fields.pod === "meshed" && fields.verb === "ADD"));
});

Deno.test("errors of the protocol are answered as by the plugin, others are left to it", async () => {
  await using served = new Served();
  using netns = createNamespace();
  const errorOf = async (made: ShimCall) => {
    const { exitCode, stdout } = answered(await callAgent(served.path, made));
    assert.equal(exitCode, 1);
    return JSON.parse(stdout).code;
  };
  assert.equal(await errorOf({ environment: { CNI_COMMAND: "NOTHING" } }), 4);
  assert.equal(await errorOf({ ...call("ADD", plain, netns.path), input: "{" }), 6);
  const unknown = { engine: "magic" };
  assert.equal(await errorOf(call("ADD", plain, netns.path, unknown)), 7);
  assert.equal(await errorOf(call("STATUS", plain, "", unknown)), 50);
  const bad = {
    ...meshed,
    metadata: {
      ...meshed.metadata,
      annotations: {
        ...meshed.metadata.annotations,
        "kuma.io/sidecar-uid": "nobody",
        "traffic.kuma.io/exclude-outbound-ports": "nothing",
      },
    },
  };
  served.fetch = () =>
    Promise.resolve(parsePod({ ...bad, metadata: { ...bad.metadata, uid: "u-bad", name: "bad" } }));
  const asBad = { ...meshed, metadata: { ...meshed.metadata, uid: "u-bad", name: "bad" } };
  assert.equal(await errorOf(call("ADD", asBad, netns.path)), 7);
  // Neither the watch nor the API server has it: the plugin has more patience, and says more.
  served.fetch = () => Promise.reject(new Error("No such pod"));
  const away = await callAgent(served.path, call("ADD", absent, netns.path));
  assert.equal(away.kind, "run-it-yourself");
  await served.settled();
  assert.deepEqual([served.handedBack, served.failures], [["pod-unknown"], []]);
});

Deno.test("an API server that does not answer costs half a second, and holds up nobody else", async () => {
  await using served = new Served();
  using netns = createNamespace();
  served.fetch = (_, signal) =>
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const started = performance.now();
  const slow = callAgent(served.path, call("ADD", absent, netns.path));
  const quick = performance.now();
  answered(await callAgent(served.path, call("ADD", meshed, netns.path)));
  const between = performance.now() - quick;
  assert.equal((await slow).kind, "run-it-yourself");
  const waited = performance.now() - started;
  assert.ok(waited > 400 && waited < 2500, `waited ${waited} ms, the shim itself waits 3 s`);
  assert.ok(between < 400, `the other call waited ${between} ms`);
});

Deno.test("what the agent must not or cannot enter is left to the plugin", async () => {
  await using served = new Served();
  const reasonOf = async (made: ShimCall) => {
    assert.equal((await callAgent(served.path, made)).kind, "run-it-yourself");
    await served.settled();
    return served.handedBack.at(-1);
  };
  using netns = createNamespace();
  // The process's own, which is the shim's here, too.
  assert.equal(await reasonOf(call("ADD", meshed, "/proc/thread-self/ns/net")), "namespace");
  // Not a namespace at all, and one of another kind.
  assert.equal(await reasonOf(call("ADD", meshed, "/dev/null")), "failed");
  assert.equal(await reasonOf(call("ADD", meshed, "/proc/self/ns/uts")), "failed");
  const engine = { engine: "iptables" };
  assert.equal(await reasonOf(call("ADD", meshed, netns.path, engine)), "engine");
  assert.equal(await reasonOf(call("CHECK", meshed, netns.path, engine)), "engine");
  // With a path that could not be opened the shim sends none.
  using client = new ShimClient(served.path);
  const made = call("ADD", meshed, netns.path);
  client.send(requestOf(made));
  assert.equal(parseAnswer(await client.receiveAll()).kind, "run-it-yourself");
  await served.settled();
  assert.equal(served.handedBack.at(-1), "namespace");
  assert.equal(takeRules(netns.path), false);
});

Deno.test("the host's namespace is not entered from an agent that has its own", async () => {
  await using served = new Served();
  using host = createNamespace();
  // The socket of who connects belongs to the namespace that it was made in.
  using client = withNetworkNamespace(host.path, () => new ShimClient(served.path));
  using file = openForReading(host.path);
  client.send(requestOf(call("ADD", meshed, host.path), true), file);
  assert.equal(parseAnswer(await client.receiveAll()).kind, "run-it-yourself");
  await served.settled();
  assert.deepEqual(served.handedBack, ["namespace"]);
  assert.equal(takeRules(host.path), false);
});

Deno.test("tables of iptables, and another who works in the namespace, send the call back at once", async () => {
  await using served = new Served();
  using netns = createNamespace();
  const started = performance.now();
  // A process of the pod can take the name as well, and keep it.
  using _lock = withNetworkNamespace(netns.path, () => {
    let lock!: FileDescriptor;
    withNetworkNamespaceLock(({ number }) => lock = new FileDescriptor(dup(number)));
    return lock;
  });
  const locked = await callAgent(served.path, call("ADD", meshed, netns.path));
  assert.equal(locked.kind, "run-it-yourself");
  assert.ok(performance.now() - started < 1000, "the agent must not wait inside of a namespace");
  using other = createNamespace();
  withNetworkNamespace(other.path, () => {
    const { code } = new Deno.Command("nft", {
      args: ["add table ip nat; add chain ip nat POSTROUTING"],
    }).outputSync();
    assert.equal(code, 0);
  });
  const foreign = await callAgent(served.path, call("ADD", meshed, other.path));
  assert.equal(foreign.kind, "run-it-yourself");
  await served.settled();
  assert.deepEqual(served.handedBack, ["failed", "engine"]);
});

Deno.test("who has given up is not served: nothing is written beside the plugin's work", async () => {
  await using served = new Served();
  using netns = createNamespace();
  const asked = Promise.withResolvers<Pod>();
  served.fetch = () => asked.promise;
  {
    using client = new ShimClient(served.path);
    using file = openForReading(netns.path);
    client.send(requestOf(call("ADD", absent, netns.path), true), file);
    for (let i = 0; served.server.size === 0 && i < 1000; i++) await sleep(1);
  }
  await sleep(20);
  asked.resolve(parsePod(absent));
  await sleep(20);
  await served.settled();
  assert.deepEqual(served.handedBack, ["given-up"]);
  assert.equal(takeRules(netns.path), false);
});

Deno.test("several calls for one namespace at the same time leave the same rules as one", async () => {
  await using served = new Served();
  using netns = createNamespace();
  const answers = await Promise.all(
    Array.from({ length: 6 }, () => callAgent(served.path, call("ADD", meshed, netns.path))),
  );
  assert.ok(answers.every(({ kind }) => kind === "answered"));
  const check = answered(await callAgent(served.path, call("CHECK", meshed, netns.path)));
  assert.equal(check.exitCode, 0, check.stdout);
});

Deno.test("silent, slow and broken peers hold up nobody, cost no memory, and are let go of", async () => {
  await using served = new Served({ idleMilliseconds: 400 });
  using netns = createNamespace();
  using peers = new DisposableStack();
  const connect = () => peers.use(new ShimClient(served.path));
  const whole = requestOf(call("ADD", plain, netns.path));
  // Nothing at all; a head alone; byte by byte; and one that never reads its answer.
  for (let i = 0; i < 20; i++) connect();
  connect().send(whole.slice(0, 20));
  const slow = connect();
  slow.send(whole.slice(0, 25));
  const started = performance.now();
  answered(await callAgent(served.path, call("ADD", plain)));
  assert.ok(performance.now() - started < 300, "others were held up");
  slow.send(whole.slice(25, 26));
  for (let i = 0; served.server.size > 0 && i < 300; i++) await sleep(10);
  await served.settled();
  assert.deepEqual(served.failures, Array(22).fill("timeout"));
});

Deno.test("words that are not agreed are dropped, and files that come with them are closed", async () => {
  await using served = new Served();
  using netns = createNamespace();
  using file = openForReading(netns.path);
  const whole = requestOf(call("ADD", plain, netns.path), true);
  const changed = (at: number, value: number) => {
    const bytes = whole.slice();
    new DataView(bytes.buffer).setUint32(at, value, true);
    return bytes;
  };
  const before = [...Deno.readDirSync("/proc/self/fd")].length;
  const cases: [string, Uint8Array<ArrayBuffer>, number][] = [
    ["another magic", changed(0, 1), 1],
    ["another version", changed(4, 2), 1],
    ["unknown flags", changed(8, 3), 1],
    ["too much environment", changed(12, 0xffffffff), 1],
    ["too much stdin", changed(16, 0xffffffff), 1],
    ["less stdin than came", changed(16, 1), 1],
    ["part of a head", whole.slice(0, 19), 1],
    ["a flag without file", whole, 0],
    ["a file without flag", requestOf(call("ADD", plain, netns.path)), 1],
    ["several files, of which one is taken", whole, 40],
  ];
  for (const [what, bytes, files] of cases) {
    using client = new ShimClient(served.path);
    client.send(bytes, ...Array<FileDescriptor>(files).fill(file));
    const answer = await client.receiveAll();
    const isTaken = what.startsWith("several");
    assert.equal(answer.length > 0, isTaken, what);
  }
  await served.settled();
  assert.equal(served.failures.length, cases.length - 1);
  assert.ok(served.failures.every((cause) => cause === "protocol"), served.failures.join());
  assert.equal([...Deno.readDirSync("/proc/self/fd")].length, before, "descriptors leak");
});

Deno.test("too many calls, and too many bytes, go to the plugin at once", async () => {
  await using served = new Served({ calls: 4, bytes: 100_000 });
  using peers = new DisposableStack();
  for (let i = 0; i < 4; i++) peers.use(new ShimClient(served.path));
  for (let i = 0; served.server.size < 4 && i < 1000; i++) await sleep(1);
  assert.equal((await callAgent(served.path, call("ADD", plain))).kind, "run-it-yourself");
  peers.dispose();
  await served.settled();
  const large = call("ADD", plain, "", { padding: "x".repeat(200_000) });
  assert.equal((await callAgent(served.path, large)).kind, "run-it-yourself");
  await served.settled();
  assert.ok(served.failures.filter((cause) => cause === "overload").length === 2);
  // What is too much to parse for others, though it may be sent.
  await using roomy = new Served();
  const huge = call("ADD", plain, "", { padding: "x".repeat(400_000) });
  assert.equal((await callAgent(roomy.path, huge)).kind, "run-it-yourself");
  await roomy.settled();
  assert.deepEqual(roomy.handedBack, ["too-large"]);
});

Deno.test("an answer that does not fit at once is sent as it is read", async () => {
  await using served = new Served();
  const result = { cniVersion: "1.1.0", padding: "x".repeat(250_000) };
  using client = new ShimClient(served.path);
  const bytes = requestOf(call("ADD", plain, "/nowhere", { prevResult: result }));
  await client.sendAll(bytes);
  await sleep(50);
  const { exitCode, stdout } = answered(parseAnswer(await client.receiveAll()));
  assert.equal(exitCode, 0);
  assert.deepEqual(JSON.parse(stdout), result);
  await served.settled();
});

Deno.test("only root is served", async () => {
  await using served = new Served();
  Deno.chmodSync(served.folder, 0o755);
  Deno.chmodSync(served.path, 0o666);
  const { stdout } = await new Deno.Command("setpriv", {
    args: [
      "--reuid=65534",
      "--clear-groups",
      "perl",
      "-MSocket",
      "-e",
      'socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un($ARGV[0])) or die "$!"; ' +
      "$SIG{PIPE} = 'IGNORE'; syswrite(S, 'KCNI'); print defined(sysread(S, $x, 1)) ? length $x : 'broken'",
      served.path,
    ],
  }).output();
  assert.match(new TextDecoder().decode(stdout), /^(0|broken)$/);
  await served.settled();
  assert.deepEqual(served.failures, ["peer"]);
});

Deno.test("the socket belongs to root alone, is served again when it was deleted, and goes at the end", async () => {
  await using served = new Served();
  assert.equal((Deno.lstatSync(served.path).mode ?? 0) & 0o777, 0o600);
  Deno.removeSync(served.path);
  assert.equal(served.server.isServing(), false);
  served.server.ensureServing();
  served.server.ensureServing();
  assert.equal(served.listening, 2, "told when it is so, and only when it has become so");
  answered(await callAgent(served.path, call("DEL", plain)));
  await served.server.close();
  assert.equal(existsSync(served.path), false);
  Deno.chmodSync(served.folder, 0o755);
  assert.throws(() => served.server.ensureServing(), /mode 0700/);
  assert.equal(served.listening, 2);
});
