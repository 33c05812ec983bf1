/**
 * `install-cni explain` against the kernel: what a person writes about a packet, and the same packet
 * sent for real, end at the same port because of the same rules.
 */
import assert from "node:assert/strict";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { parseRedirectInputs } from "../installer/commands/redirect_input.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { evaluate, type Evaluation } from "../src/redirect/evaluate.ts";
import { agreementLaboratory, type SourcedProbe } from "./support/arbitrary_redirect.ts";
import { zonesOfDatagram } from "./support/conntrack.ts";
import { PEER, POD } from "./support/laboratory.ts";
import {
  answerTo,
  describeLanding,
  expectedLanding,
  packetOf,
} from "./support/probe_prediction.ts";

const main = new URL("../installer/main.ts", import.meta.url).pathname;

const CONFIG = JSON.stringify({
  redirect: {
    dns: { enabled: true, captureAll: true },
    inbound: { excludePorts: [9001] },
    outbound: { excludePortsForIPs: ["10.96.0.0/12", "fd96::/16"] },
    vnet: { networks: ["vnet+:10.77.0.0/24", "vnet+:fd77:0:0:1::/64"] },
  },
  dropInvalidPackets: true,
});

/** A packet in the words of a person, and as it is sent. */
type Case = readonly [from: string, to: string, probe: SourcedProbe, more?: readonly string[]];

const tcp = (uid: number, source: string, address: string, port: number): SourcedProbe => ({
  ...{ direction: "outbound", protocol: "tcp", uid, source, to: { address, port } },
});
const udp = (uid: number, source: string, address: string): SourcedProbe => ({
  ...{ direction: "outbound", protocol: "udp", uid, source, to: { address, port: 53 } },
});
const inbound = (source: string, address: string, port: number): SourcedProbe => ({
  ...{ direction: "inbound", protocol: "tcp", source, to: { address, port } },
});

const cases: Readonly<Record<"ipv4" | "ipv6", readonly Case[]>> = {
  ipv4: [
    ["uid=1000", "10.93.0.3:80", tcp(1000, POD.ipv4, PEER.ipv4, 80)],
    ["uid=1000", "10.96.0.10:80", tcp(1000, POD.ipv4, "10.96.0.10", 80)],
    ["sidecar", "10.93.0.3:80/tcp", tcp(5678, POD.ipv4, PEER.ipv4, 80)],
    ["10.93.0.3", "8080", inbound(PEER.ipv4, POD.ipv4, 8080)],
    ["10.93.0.3:50000", "10.93.0.2:9001/tcp", inbound(PEER.ipv4, POD.ipv4, 9001)],
    ["uid=1000", "127.0.0.1:8080", tcp(1000, "127.0.0.1", "127.0.0.1", 8080)],
    ["sidecar", "127.0.0.1:8080", tcp(5678, "127.0.0.1", "127.0.0.1", 8080)],
    ["uid=1000", "8080", tcp(1000, POD.ipv4, POD.ipv4, 8080)],
    ["sidecar", "10.93.0.2:8080", tcp(5678, POD.ipv4, POD.ipv4, 8080)],
    ["sidecar,127.0.0.6", "10.93.0.2:8080", tcp(5678, "127.0.0.6", POD.ipv4, 8080)],
    ["uid=1000", "10.93.0.3:53/udp", udp(1000, POD.ipv4, PEER.ipv4)],
    ["sidecar", "10.93.0.3:53/udp", udp(5678, POD.ipv4, PEER.ipv4)],
    ["uid=1000", "10.93.0.3:53/tcp", tcp(1000, POD.ipv4, PEER.ipv4, 53)],
    ["uid=1000", "127.0.0.11:53/udp", udp(1000, "127.0.0.1", "127.0.0.11")],
    [
      "10.77.0.2",
      "10.93.0.3:80",
      { ...inbound("10.77.0.2", PEER.ipv4, 80), through: "vnet0" },
      ["--interface", "vnet0"],
    ],
  ],
  ipv6: [
    ["uid=1000", "[fd93::3]:80", tcp(1000, POD.ipv6, PEER.ipv6, 80)],
    ["uid=1000", "[fd96::10]:80", tcp(1000, POD.ipv6, "fd96::10", 80)],
    ["fd93::3", "[fd93::2]:8080", inbound(PEER.ipv6, POD.ipv6, 8080)],
    ["fd93::3", "9001", inbound(PEER.ipv6, POD.ipv6, 9001)],
    ["uid=1000", "[::1]:8080", tcp(1000, "::1", "::1", 8080)],
    ["sidecar", "[fd93::2]:8080", tcp(5678, POD.ipv6, POD.ipv6, 8080)],
    ["sidecar,::6", "[fd93::2]:8080", tcp(5678, "::6", POD.ipv6, 8080)],
    ["uid=1000", "[fd93::3]:53/udp", udp(1000, POD.ipv6, PEER.ipv6)],
    ["sidecar", "[fd93::3]:53/udp", udp(5678, POD.ipv6, PEER.ipv6)],
  ],
};

async function explain(
  path: string,
  [from, to, , more = []]: Case,
  podIp: string,
): Promise<Evaluation> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--allow-read", "--allow-env", "--no-prompt", "--no-check", "--quiet", main],
      ...["explain", path, "--from", from, "--to", to, "--output", "json", "--pod-ip", podIp],
      ...more,
    ],
    env: { NO_COLOR: "1" },
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

for (const family of ["ipv4", "ipv6"] as const) {
  Deno.test(`explain says what the kernel does with ${family} packets`, async () => {
    const [input] = parseRedirectInputs(CONFIG, "x", {
      allowPodSettings: new Set(),
      resolvers: [],
    });
    assert.ok(input.kind === "redirect");
    using lab = agreementLaboratory(input.config.sidecarUid);
    const ruleset = lab.inPod(() => {
      const ruleset = compileRuleset(input.config, readNamespaceFacts());
      new NftablesEngine().apply(ruleset);
      return ruleset;
    });
    const path = await Deno.makeTempFile({ suffix: ".json" });
    try {
      await Deno.writeTextFile(path, CONFIG);
      const said = await Promise.all(
        cases[family].map((entry) => explain(path, entry, POD[family])),
      );
      for (const [i, [from, to, probe]] of cases[family].entries()) {
        const words = `${from} to ${to}`;
        const { verdict, conntrackZone, steps } = said[i]!;
        const evaluated = evaluate(ruleset, packetOf(probe));
        assert.deepEqual([verdict, conntrackZone], [evaluated.verdict, evaluated.conntrackZone]);
        assert.deepEqual(steps.map(rulesMet), evaluated.steps.map(rulesMet), words);

        const landing = lab.probe(probe);
        const answer = answerTo(probe, landing, input.config.sidecarUid);
        const expected = expectedLanding(
          (packet) => evaluate(ruleset, packet),
          probe,
          said[i]!,
          answer && evaluate(ruleset, answer),
        );
        assert.equal(describeLanding(landing), expected, words);
        if (probe.protocol === "udp") {
          const zones = lab.inPod(() => zonesOfDatagram(landing.sender!, probe.to));
          assert.deepEqual(zones, [conntrackZone ?? 0], words);
        }
      }
    } finally {
      await Deno.remove(path);
    }
  });
}

function rulesMet({ chain, position, rule, matched }: Evaluation["steps"][number]): unknown[] {
  return [chain, position, rule.id, matched];
}
