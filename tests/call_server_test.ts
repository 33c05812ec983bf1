/** Calls that come over the agent's socket: served by the plugin's own code, or left to it. */
import assert from "node:assert/strict";
import { CompiledRules } from "../installer/agent/compiled_rules.ts";
import { CallServer } from "../installer/agent/call_server.ts";
import { type CallAgent, type HandBackReason, serveCall } from "../installer/agent/served_call.ts";
import type { CallOutcome } from "../src/agent/messages.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { EventPoll } from "../src/linux/event_poll.ts";
import { openForReading } from "../src/linux/libc.ts";
import { withNetworkNamespace } from "../src/linux/network_namespace.ts";
import { acceptNext, peerUser, receiveFirst } from "../src/linux/unix_stream.ts";
import type { LogRecord } from "../src/log/log.ts";
import { parsePod, type Pod } from "../src/kubernetes/pod.ts";
import type { ShimAnswer } from "../src/shim/words.ts";
import "./support/load_libc.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import { callAgent, requestOf, type ShimCall, ShimClient } from "./support/shim_client.ts";
import { createNamespace } from "./support/topology.ts";

const meshed = injectedPod({ name: "meshed", uid: "u-meshed" });
const plain = plainPod({ name: "plain", uid: "u-plain" });
const absent = injectedPod({ name: "absent", uid: "u-absent" });

/** A served socket in a folder of its own, and what the agent was told. */
class Served implements Disposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "kuma-test-calls-" });
  readonly path = `${this.folder}/call.sock`;
  readonly records: LogRecord[] = [];
  readonly outcomes: CallOutcome[] = [];
  readonly entries: unknown[] = [];
  readonly failures: string[] = [];
  readonly handedBack: HandBackReason[] = [];
  served = 0;
  mayCapture = true;
  fetch: () => Promise<Pod> = () => Promise.reject(new Error("No such pod"));
  readonly server: CallServer;

  constructor(limits: ConstructorParameters<typeof CallServer>[3] = {}) {
    Deno.chmodSync(this.folder, 0o700);
    const known = [meshed, plain].map((pod) => parsePod(pod));
    const self = this;
    const agent: CallAgent = {
      pods: {
        cached: ({ name, uid }) => known.find((pod) => pod.name === name && pod.uid === uid),
        fetch: () => this.fetch(),
      },
      rules: new CompiledRules(),
      get mayCapture() {
        return self.mayCapture;
      },
      podAnswered: () => {},
      stateFolder: this.folder,
      finished: ({ records, outcome, entry }) => {
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
    this.server = new CallServer(
      this.path,
      (request, from) => serveCall(request, from, agent),
      { failed: (cause) => this.failures.push(cause) },
      limits,
    );
    this.server.ensureServing();
  }

  /** Waits until nothing is held any more; what a test leaves behind shows here. */
  async settled(): Promise<void> {
    for (let i = 0; this.server.size > 0 && i < 1000; i++) await sleep(1);
    assert.deepEqual([this.server.size, this.server.heldBytes], [0, 0]);
  }

  [Symbol.dispose](): void {
    this.server.close();
    Deno.removeSync(this.folder, { recursive: true });
  }
}

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
  using served = new Served();
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
