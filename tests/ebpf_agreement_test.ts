/**
 * For random configurations and packets, the evaluator and the kernel with the eBPF engine agree
 * about where each packet ends: the same configurations and probes as those of the other engines.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import { EbpfEngine } from "../src/engine/ebpf/ebpf_engine.ts";
import { rulesOfEbpf } from "../src/engine/ebpf/explain.ts";
import type { InboundWay } from "../src/engine/ebpf/interface.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { evaluate, type Packet } from "../src/redirect/evaluate.ts";
import {
  agreementLaboratory,
  type Attempt,
  attempt,
  type SourcedProbe,
} from "./support/arbitrary_redirect.ts";
import { flushConntrack } from "./support/conntrack.ts";
import type { Laboratory } from "./support/laboratory.ts";
import { BpfFileSystem, PodCgroup } from "./support/pod_cgroup.ts";
import {
  answerTo,
  describeLanding,
  endsInPod,
  expectedLanding,
  packetOf,
} from "./support/probe_prediction.ts";
import { addLinkAddress } from "./support/topology.ts";

const factor = Deno.env.get("KUMA_CNI_LONG_TESTS") === "1" ? 100 : 1;

/** A pod for each user of the sidecar, made when needed. */
class Pods implements Disposable {
  readonly #stack = new DisposableStack();
  readonly #bpffs = this.#stack.use(new BpfFileSystem());
  readonly #all = new Map<number, { lab: Laboratory; cgroup: PodCgroup }>();

  get(uid: number): { lab: Laboratory; cgroup: PodCgroup; pinFolder: string } {
    const pinFolder = `${this.#bpffs.path}/kuma-cni/pod-${uid}`;
    const known = this.#all.get(uid);
    if (known !== undefined) return { ...known, pinFolder };
    const cgroup = this.#stack.use(new PodCgroup());
    const lab = this.#stack.use(agreementLaboratory(uid, cgroup));
    lab.inPod(() => addLinkAddress("lo", "::6/128"));
    this.#all.set(uid, { lab, cgroup });
    return { lab, cgroup, pinFolder };
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** What this engine says that it cannot do is left out; another test has it. */
function possible(config: RedirectConfig): RedirectConfig {
  return {
    ...config,
    virtualNetworks: [],
    dropInvalidPackets: false,
    log: { ...config.log, enabled: false },
  };
}

/** Each stands in docs/differences.md. */
function isKnownDifference(probe: SourcedProbe): boolean {
  const forwarded = probe.through !== undefined && !endsInPod(probe);
  // The pod's answer looks like a question of its own.
  const fromDnsPort = probe.direction === "inbound" && probe.sourcePort === 53;
  return forwarded || fromDnsPort;
}

function agree(pods: Pods, inbound: InboundWay, attempt: Attempt): void {
  const config = possible(attempt.config);
  const { lab, cgroup, pinFolder } = pods.get(config.sidecarUid);
  const engine = new EbpfEngine({ cgroup: cgroup.path, pinFolder, inbound });
  const ruleset = lab.inPod(() => {
    const ruleset = compileRuleset(config, readNamespaceFacts());
    engine.apply(ruleset);
    assert.deepEqual(engine.verify(ruleset), []);
    flushConntrack();
    return rulesOfEbpf(ruleset);
  });
  lab.listenAgain();
  const walk = (packet: Packet) => evaluate(ruleset, packet);
  const probes = attempt.probes.filter((probe) => !isKnownDifference(probe));
  const differences = probes.flatMap((probe) => {
    const question = walk(packetOf(probe));
    const landing = lab.probe(probe);
    const answerPacket = answerTo(probe, landing, config.sidecarUid);
    const answer = answerPacket && walk(answerPacket);
    const expected = [expectedLanding(walk, probe, question, answer)];
    const actual = [describeLanding(landing)];
    if (probe.protocol === "tcp" && question.verdict.kind === "redirect") {
      expected.push(JSON.stringify([probe.to, probe.to]));
      actual.push(JSON.stringify([landing.originalDestination, landing.peer]));
    }
    return JSON.stringify(expected) === JSON.stringify(actual)
      ? []
      : [{ probe, evaluator: expected, kernel: actual, landing }];
  });
  assert.deepEqual(differences, [], JSON.stringify(config));
}

for (const [inbound, runs] of [["sk_lookup", 250], ["nftables", 60]] as const) {
  Deno.test({
    name: `evaluator and kernel agree about random packets (eBPF, inbound by ${inbound})`,
    sanitizeResources: false, // Engines load libraries when they first need them.
    fn: () => {
      using pods = new Pods();
      const seed = Number(
        Deno.env.get("KUMA_CNI_TEST_SEED") ?? Date.now() ^ Math.random() * 2 ** 32,
      );
      console.log(`KUMA_CNI_TEST_SEED=${seed}, ${runs * factor} configurations`);
      fc.assert(
        fc.property(attempt(25), (attempt) => agree(pods, inbound, attempt)),
        { numRuns: runs * factor, seed, endOnFailure: true },
      );
    },
  });
}
