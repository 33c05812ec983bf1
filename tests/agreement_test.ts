/**
 * For random configurations and packets, three answers to "where does this packet end?" agree: the
 * evaluator's, the kernel's with the nftables engine, and the kernel's with the iptables engine.
 * So do the answers to "in which zone of connection tracking is this datagram?" and, where the
 * kernel counts, to "which rules did packets meet?"
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Engine } from "../src/engine/engine.ts";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import type { Layout } from "../src/engine/nftables/plan.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { addLinkAddress } from "./support/topology.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { IpFamily } from "../src/ip/address.ts";
import type { Packet, TraceStep } from "../src/redirect/evaluate.ts";
import { agreementLaboratory, type Attempt, attempt } from "./support/arbitrary_redirect.ts";
import { flushConntrack, zonesOfDatagram } from "./support/conntrack.ts";
import { type Foreigner, foreignNatTable, installForeignRules } from "./support/foreign_rules.ts";
import type { TestBackend } from "./support/iptables.ts";
import type { Laboratory } from "./support/laboratory.ts";
import { predict } from "./support/prediction.ts";
import {
  answerTo,
  describeLanding,
  endsInPod,
  expectedLanding,
  familyOf,
  packetOf,
} from "./support/probe_prediction.ts";
import { countNatSteps, differentCounters, readNatCounters } from "./support/rule_counters.ts";

/** How many times the usual number of configurations a long run (`deno task test:long`) tries. */
const factor = Deno.env.get("KUMA_CNI_LONG_TESTS") === "1" ? 100 : 1;
/** Virtual links hand a packet over at once, so a short time is enough to see that none comes. */
const DROP_MS = 10;
const ARRIVAL_MS = 1000;

/** The kernel finishes the new address a little later. */
function awaitAddress(lab: Laboratory, source: string): void {
  const probe = { direction: "outbound", protocol: "tcp", source } as const;
  for (let tries = 0; lab.probe({ ...probe, to: { address: "::1", port: 1 } }).end === "lost";) {
    if (++tries === 20) throw new Error(`The pod did not get the address ${source}`);
  }
}

/** Laboratories for every user of the sidecar and every kind of foreign rules, made when needed. */
class Laboratories implements Disposable {
  readonly #all = new Map<string, Laboratory>();

  constructor(private readonly backend: TestBackend) {}

  get(sidecarUid: number, foreigner: Foreigner): Laboratory {
    const key = `${sidecarUid} ${foreigner}`;
    const known = this.#all.get(key);
    if (known !== undefined) return known;
    const lab = agreementLaboratory(sidecarUid);
    this.#all.set(key, lab);
    lab.inPod(() => {
      // An IPv4-only ruleset does not bring the address that probes use as a source.
      addLinkAddress("lo", "::6/128");
      installForeignRules(foreigner, this.backend);
    });
    awaitAddress(lab, "::6");
    return lab;
  }

  [Symbol.dispose](): void {
    for (const lab of this.#all.values()) lab[Symbol.dispose]();
  }
}

interface Setting {
  readonly engine: Engine;
  readonly backend: TestBackend;
  readonly layout: Layout;
}

function agree(labs: Laboratories, { engine, backend, layout }: Setting, attempt: Attempt): void {
  const { config, foreigner, conntrackZones, probes, stray } = attempt;
  const lab = labs.get(config.sidecarUid, foreigner);
  const ruleset = lab.inPod(() => {
    const ruleset = compileRuleset(config, { ...readNamespaceFacts(), conntrackZones });
    engine.apply(ruleset);
    assert.deepEqual(engine.verify(ruleset), []);
    // An entry of an earlier probe would decide the way of one from and to the same ports.
    flushConntrack();
    return ruleset;
  });
  const evaluate = (packet: Packet) =>
    predict(ruleset, foreignNatTable(foreigner, packet.family), engine.name, packet, layout);
  const families = ruleset.families.map(({ family }) => family);
  const steps: Record<IpFamily, TraceStep[]> = { ipv4: [], ipv6: [] };
  // Only iptables counts.
  const counted = engine.name === "iptables" ? families : [];
  const counters = () => counted.map((family) => lab.inPod(() => readNatCounters(family, backend)));

  const before = counters();
  const differences = probes.flatMap((probe) => {
    const family = familyOf(probe);
    const question = evaluate(packetOf(probe));
    steps[family].push(...question.steps);
    const landing = lab.probe(probe);
    const { sender } = landing;
    const answerPacket = answerTo(probe, landing, config.sidecarUid);
    const answer = answerPacket && evaluate(answerPacket);
    // In another zone the answer is the first packet of a connection of its own.
    if (answer?.conntrackZone !== question.conntrackZone) {
      steps[family].push(...answer?.steps ?? []);
    }
    const zones = probe.protocol === "udp" && sender !== undefined && families.includes(family)
      ? lab.inPod(() => zonesOfDatagram(sender, probe.to))
      : undefined;
    const expected = [
      expectedLanding(evaluate, probe, question, answer),
      zones && [question.conntrackZone ?? 0],
    ];
    const actual = [describeLanding(landing), zones];
    return JSON.stringify(expected) === JSON.stringify(actual)
      ? []
      : [{ probe, evaluator: expected, kernel: actual }];
  });
  assert.deepEqual(differences, []);

  const after = counters();
  const otherCounts = counted.flatMap((family, i) =>
    differentCounters(before[i]!, after[i]!, countNatSteps(steps[family]), isUnknownChain)
  );
  assert.deepEqual(otherCounts, []);

  const invalid: Packet = { ...packetOf(stray), protocol: "tcp", conntrackState: "invalid" };
  const { kind } = evaluate(invalid).verdict;
  const arrives = lab.strayArrives(stray, endsInPod(stray), kind === "drop" ? DROP_MS : ARRIVAL_MS);
  assert.deepEqual({ stray, arrives }, { stray, arrives: kind !== "drop" });
}

/** Chains on ways that the evaluator does not follow. */
function isUnknownChain(chain: string): boolean {
  return chain.endsWith("POSTROUTING");
}

for (
  const [name, engine, layout, backend, runs] of [
    ["nftables", new NftablesEngine("inet"), "inet", "nft", 250],
    [
      "nftables, tables for each family",
      new NftablesEngine("per-family"),
      "per-family",
      "nft",
      60,
    ],
    ["iptables-nft", new IptablesEngine({ backend: "nft" }), "inet", "nft", 50],
    ["iptables-legacy", new IptablesEngine({ backend: "legacy" }), "inet", "legacy", 50],
  ] as const
) {
  Deno.test({
    name: `evaluator and kernel agree about random packets (${name})`,
    sanitizeResources: false, // The iptables engine loads libraries when it first needs them.
    fn: () => {
      using labs = new Laboratories(backend);
      const seed = Number(
        Deno.env.get("KUMA_CNI_TEST_SEED") ?? Date.now() ^ Math.random() * 2 ** 32,
      );
      console.log(`KUMA_CNI_TEST_SEED=${seed}, ${runs * factor} configurations`);
      fc.assert(
        fc.property(attempt(25), (attempt) => agree(labs, { engine, backend, layout }, attempt)),
        // Shrinking would apply thousands of rulesets; the seed is enough to find the case again.
        { numRuns: runs * factor, seed, endOnFailure: true },
      );
    },
  });
}
