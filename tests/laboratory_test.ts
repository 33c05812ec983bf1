/** The laboratory itself, and the default rules in it: what property tests of the rules stand on. */
import assert from "node:assert/strict";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import type { NamespaceFacts } from "../src/redirect/ruleset.ts";
import { Laboratory, type LaboratoryProbe, type Landing, PEER, POD } from "./support/laboratory.ts";

const facts: NamespaceFacts = {
  loopback: "lo",
  ipv6: true,
  dockerOutput: { ipv4: false, ipv6: false },
  conntrackZones: true,
};
const DNS = { ipv4: "10.96.0.10", ipv6: "fd96::10" } as const;
const families = ["ipv4", "ipv6"] as const;

function laboratory(): Laboratory {
  return new Laboratory({
    podTcp: [8080, 15001, 15006],
    podUdp: [5000, 15053],
    peerTcp: [80],
    peerUdp: [53],
    peerAddresses: Object.values(DNS),
  });
}

/** The part of a landing that rules decide. */
function short({ end, place, at, answered, error }: Landing): string {
  if (end !== "listener") return error ?? end;
  return `${place}:${at?.port}${answered ? "" : " unanswered"}`;
}

const outbound = (uid: number, address: string, port: number): LaboratoryProbe => ({
  direction: "outbound",
  protocol: "tcp",
  uid,
  to: { address, port },
});
const inbound = (address: string, port: number): LaboratoryProbe => ({
  direction: "inbound",
  protocol: "tcp",
  to: { address, port },
});
const dns = (uid: number, address: string): LaboratoryProbe => ({
  direction: "outbound",
  protocol: "udp",
  uid,
  to: { address, port: 53 },
});

Deno.test("without rules every probe lands where it was sent", () => {
  using lab = laboratory();
  for (const family of families) {
    const actual = [
      outbound(1000, PEER[family], 80),
      outbound(5678, PEER[family], 80),
      outbound(1000, PEER[family], 81),
      inbound(POD[family], 8080),
      inbound(POD[family], 8081),
      dns(1000, DNS[family]),
      { ...dns(1000, DNS[family]), to: { address: DNS[family], port: 54 } },
    ].map((probe) => short(lab.probe(probe)));
    assert.deepEqual(actual, [
      "peer:80",
      "peer:80",
      "ECONNREFUSED",
      "pod:8080",
      "ECONNREFUSED",
      "peer:53",
      "ECONNREFUSED",
    ]);
  }
});

Deno.test("with the default rules and DNS, probes land at the sidecar's ports", () => {
  using lab = laboratory();
  const config = {
    ...defaultRedirectConfig,
    dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
  };
  lab.inPod(() => new NftablesEngine().apply(compileRuleset(config, facts)));
  for (const family of families) {
    const captured = lab.probe(outbound(1000, PEER[family], 80));
    assert.equal(short(captured), "pod:15001");
    assert.deepEqual(captured.originalDestination, { address: PEER[family], port: 80 });
    assert.equal(captured.seenSource?.address, POD[family]);

    const received = lab.probe(inbound(POD[family], 8081));
    assert.equal(short(received), "pod:15006");
    assert.deepEqual(received.originalDestination, { address: POD[family], port: 8081 });
    assert.equal(received.seenSource?.address, PEER[family]);

    const passedOn = { ...outbound(5678, POD[family], 8080) };
    assert.deepEqual(
      [
        outbound(5678, PEER[family], 80),
        passedOn,
        {
          ...passedOn,
          source: family === "ipv4" ? "127.0.0.6" : "::6",
        },
        dns(1000, DNS[family]),
        dns(5678, DNS[family]),
        dns(1000, DNS[family]),
      ].map((probe) => short(lab.probe(probe))),
      ["peer:80", "pod:15006", "pod:8080", "pod:15053", "peer:53", "pod:15053"],
    );
  }
});

Deno.test("a thousand probes take less than two seconds", () => {
  using lab = laboratory();
  const started = performance.now();
  for (let i = 0; i < 1000; i++) {
    assert.equal(short(lab.probe(outbound(1000, PEER.ipv4, 80))), "peer:80");
  }
  assert.ok(performance.now() - started < 2000, `took ${performance.now() - started} ms`);
});
