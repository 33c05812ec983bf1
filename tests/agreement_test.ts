/**
 * For random configurations and packets, three answers to "where does this packet end?" agree: the
 * evaluator's, the kernel's with the nftables engine, and the kernel's with the iptables engine.
 * So do two answers about DNS: in which zone of connection tracking is it?
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Engine } from "../src/engine/engine.ts";
import { readNamespaceFacts } from "../src/engine/facts.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import type { Layout } from "../src/engine/nftables/plan.ts";
import type { Endpoint } from "../src/linux/sockets.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { addLinkAddress } from "../src/linux/topology.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { evaluate, type Evaluation, type Packet } from "../src/redirect/evaluate.ts";
import type { Ruleset } from "../src/redirect/ruleset.ts";
import {
  agreementLaboratory,
  type Attempt,
  attempt,
  CLOSED_PORT,
  OWN_ADDRESSES,
  type SourcedProbe,
} from "./support/arbitrary_redirect.ts";
import { flushConntrack, zonesOfDatagram } from "./support/conntrack.ts";
import { type Foreigner, foreignNatTable, installForeignRules } from "./support/foreign_rules.ts";
import type { TestBackend } from "./support/iptables.ts";
import type { Laboratory, Landing } from "./support/laboratory.ts";
import { predict } from "./support/prediction.ts";

/** How many times the usual number of configurations a long run (`deno task test:long`) tries. */
const factor = Deno.env.get("KUMA_CNI_LONG_TESTS") === "1" ? 100 : 1;
/** Virtual links hand a packet over at once, so a short time is enough to see that none comes. */
const DROP_MS = 10;
const ARRIVAL_MS = 1000;

function familyOf({ to }: SourcedProbe): "ipv4" | "ipv6" {
  return to.address.includes(":") ? "ipv6" : "ipv4";
}

function endsInPod(probe: SourcedProbe): boolean {
  return OWN_ADDRESSES[familyOf(probe)].includes(probe.to.address);
}

function packetOf(probe: SourcedProbe): Packet {
  const { direction, protocol, source, sourcePort = 30000, to, uid, through } = probe;
  return {
    family: familyOf(probe),
    direction,
    protocol,
    source,
    sourcePort,
    destination: to.address,
    destinationPort: to.port,
    ...(direction === "outbound"
      ? { outputInterface: endsInPod(probe) ? "lo" : "eth0" }
      : { inputInterface: through ?? "eth0" }),
    ...(uid === undefined ? {} : { uid }),
  };
}

/** Where the evaluator sends a probe, in the words of {@linkcode described}. */
function predicted(
  ruleset: Ruleset,
  evaluation: Evaluation,
  probe: SourcedProbe,
  answerZone: number,
): string {
  const { verdict, conntrackZone = 0 } = evaluation;
  if (verdict.kind === "redirect") {
    // A translated datagram's answer is translated back only in the zone of the question.
    const lost = probe.protocol === "udp" && answerZone !== conntrackZone;
    return `pod:${verdict.port}${lost ? ", no answer" : ""}`;
  }
  if (verdict.kind === "drop") return "lost";
  if (probe.to.port === CLOSED_PORT) {
    return isRefusalDropped(ruleset, probe, conntrackZone) ? "lost" : "refused";
  }
  return `${endsInPod(probe) ? "pod" : "peer"}:${probe.to.port}`;
}

/** Whether rules drop the ICMP message which tells the pod that a UDP port is closed. */
function isRefusalDropped(ruleset: Ruleset, probe: SourcedProbe, zone: number): boolean {
  if (probe.protocol !== "udp" || probe.direction !== "outbound") return false;
  const { verdict } = evaluate(ruleset, {
    family: familyOf(probe),
    ...(endsInPod(probe)
      ? { direction: "outbound", outputInterface: "lo" }
      : { direction: "inbound" }),
    protocol: "icmp",
    source: probe.to.address,
    destination: probe.source,
    // It is outside of all zones and is related only to connections there.
    conntrackState: zone === 0 ? "related" : "invalid",
  });
  return verdict.kind === "drop";
}

/** The zone of the answer that the pod's listener gives to a redirected probe. */
function zoneOfAnswer(ruleset: Ruleset, probe: SourcedProbe, landing: Landing, uid: number) {
  const isOfProbe = ({ address }: Endpoint) =>
    address.includes(":") === (familyOf(probe) === "ipv6");
  if (landing.at === undefined || landing.seenSource === undefined) return 0;
  if (!isOfProbe(landing.at)) return 0;
  return evaluate(ruleset, {
    family: familyOf(probe),
    direction: "outbound",
    protocol: probe.protocol,
    source: landing.at.address,
    sourcePort: landing.at.port,
    destination: landing.seenSource.address,
    destinationPort: landing.seenSource.port,
    uid,
    conntrackState: "established",
  }).conntrackZone ?? 0;
}

function described({ end, place, at, answered }: Landing): string {
  return end === "listener" ? `${place}:${at?.port}${answered ? "" : ", no answer"}` : end;
}

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

function agree(labs: Laboratories, engine: Engine, layout: Layout, attempt: Attempt): void {
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
  const evaluated = (probe: SourcedProbe, packet: Packet) =>
    predict(ruleset, foreignNatTable(foreigner, familyOf(probe)), engine.name, packet, layout);

  const differences = probes.flatMap((probe) => {
    const evaluation = evaluated(probe, packetOf(probe));
    const landing = lab.probe(probe);
    const zones = lab.inPod(() =>
      landing.sender !== undefined && probe.protocol === "udp" &&
        ruleset.families.some(({ family }) => family === familyOf(probe))
        ? zonesOfDatagram(landing.sender, probe.to)
        : undefined
    );
    const answerZone = zoneOfAnswer(ruleset, probe, landing, config.sidecarUid);
    const expected = [
      predicted(ruleset, evaluation, probe, answerZone),
      zones && [evaluation.conntrackZone ?? 0],
    ];
    const actual = [described(landing), zones];
    return JSON.stringify(expected) === JSON.stringify(actual)
      ? []
      : [{ probe, evaluator: expected, kernel: actual }];
  });
  assert.deepEqual(differences, []);

  const invalid: Packet = { ...packetOf(stray), protocol: "tcp", conntrackState: "invalid" };
  const { kind } = evaluated(stray, invalid).verdict;
  const arrives = lab.strayArrives(stray, endsInPod(stray), kind === "drop" ? DROP_MS : ARRIVAL_MS);
  assert.deepEqual({ stray, arrives }, { stray, arrives: kind !== "drop" });
}

for (
  const [name, engine, layout, backend, runs] of [
    ["nftables", new NftablesEngine("inet"), "inet", "nft", 300],
    [
      "nftables, tables for each family",
      new NftablesEngine("per-family"),
      "per-family",
      "nft",
      100,
    ],
    ["iptables-nft", new IptablesEngine({ backend: "nft" }), "inet", "nft", 80],
    ["iptables-legacy", new IptablesEngine({ backend: "legacy" }), "inet", "legacy", 80],
  ] as const
) {
  Deno.test({
    name: `evaluator and kernel agree about random packets (${name})`,
    sanitizeResources: false, // The iptables engine loads libraries when it first needs them.
    fn: () => {
      using labs = new Laboratories(backend);
      const seed = Date.now() ^ (Math.random() * 0x100000000);
      console.log(`seed ${seed}, ${runs * factor} configurations`);
      fc.assert(
        fc.property(attempt(25), (attempt) => agree(labs, engine, layout, attempt)),
        // Shrinking would apply thousands of rulesets; the seed is enough to find the case again.
        { numRuns: runs * factor, seed, endOnFailure: true },
      );
    },
  });
}
