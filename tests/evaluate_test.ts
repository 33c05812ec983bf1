import assert from "node:assert/strict";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectRulesVersion } from "../src/redirect/config.ts";
import { evaluate, type Packet } from "../src/redirect/evaluate.ts";
import type { Ruleset } from "../src/redirect/ruleset.ts";
import { readVectors, vectorConfig, vectorFacts } from "./support/vectors.ts";

function vectorRuleset(number: number, version: RedirectRulesVersion = "2.9"): Ruleset {
  const vector = readVectors()[number]!;
  return compileRuleset(vectorConfig(vector, version), vectorFacts(vector));
}

const APP = 1000;
const SIDECAR = 5678;
const POD = { ipv4: "10.93.0.2", ipv6: "fd93::2" };
const PEER = { ipv4: "10.93.0.3", ipv6: "fd93::3" };
const HOME = { ipv4: "127.0.0.1", ipv6: "::1" };
const PASSTHROUGH = { ipv4: "127.0.0.6", ipv6: "::6" };

type Family = "ipv4" | "ipv6";
type Sketch = (family: Family) => Partial<Packet>;

function packet(family: Family, sketch: Sketch): Packet {
  return {
    family,
    direction: "outbound",
    protocol: "tcp",
    source: POD[family],
    sourcePort: 40000,
    destination: PEER[family],
    destinationPort: 80,
    uid: APP,
    ...sketch(family),
  };
}

const inbound = (port: number, more: Partial<Packet> = {}): Sketch => (family) => ({
  direction: "inbound",
  source: PEER[family],
  destination: POD[family],
  destinationPort: port,
  ...more,
});
const dns = (uid: number, protocol = "udp"): Sketch => (family) => ({
  protocol,
  uid,
  destination: family === "ipv4" ? "10.96.0.10" : "fd00:10:96::a",
  destinationPort: 53,
});

const cases: [
  vector: number,
  version: RedirectRulesVersion,
  name: string,
  sketch: Sketch,
  end: string,
  lastRule: string | undefined,
][] = [
  [1, "2.9", "app to peer", () => ({}), "15001", "D2"],
  [1, "2.9", "root to peer", () => ({ uid: 0 }), "15001", "D2"],
  [1, "2.9", "app to the excluded port", () => ({ destinationPort: 9901 }), "accept", "M2"],
  [1, "2.9", "sidecar to peer", () => ({ uid: SIDECAR }), "accept", "M6"],
  [1, "2.9", "app to localhost", (f) => ({ destination: HOME[f] }), "accept", "M5"],
  [
    1,
    "2.9",
    "app to its own pod",
    (f) => ({ destination: POD[f], destinationPort: 8080 }),
    "accept",
    "M5",
  ],
  [
    1,
    "2.9",
    "sidecar to its own pod",
    (f) => ({ uid: SIDECAR, destination: POD[f] }),
    "15006",
    "D1",
  ],
  [
    1,
    "2.9",
    "sidecar to localhost",
    (f) => ({ uid: SIDECAR, destination: HOME[f] }),
    "accept",
    "M6",
  ],
  [
    1,
    "2.9",
    "the validator's check",
    (f) => ({
      uid: SIDECAR,
      source: HOME[f],
      destination: PASSTHROUGH[f],
      destinationPort: 23456,
    }),
    "15006",
    "D1",
  ],
  [
    1,
    "2.9",
    "passthrough to the app",
    (f) => ({
      uid: SIDECAR,
      source: PASSTHROUGH[f],
      destination: POD[f],
      outputInterface: "lo",
    }),
    "accept",
    "M3",
  ],
  [1, "2.9", "peer to the app", inbound(8080), "15006", "D1"],
  [1, "2.9", "peer to the probe port", inbound(9001), "accept", "I4"],
  [1, "2.9", "peer by UDP", inbound(8080, { protocol: "udp" }), "accept", undefined],
  [
    1,
    "2.9",
    "later packets of a connection",
    () => ({ conntrackState: "established" }),
    "accept",
    undefined,
  ],
  [1, "2.9", "ICMP", () => ({ protocol: "icmp" }), "accept", undefined],
  [1, "2.9", "app DNS", dns(APP), "15053 zone 2", "O5"],
  [1, "2.9", "sidecar DNS", dns(SIDECAR), "accept zone 1", "O4"],
  [1, "2.9", "app DNS over TCP", dns(APP, "tcp"), "15053", "M7"],
  [1, "3", "app DNS over TCP", dns(APP, "tcp"), "accept", "O6"],
  [1, "3", "sidecar DNS over TCP", dns(SIDECAR, "tcp"), "accept", "M6"],
  [
    1,
    "2.9",
    "upstream answer",
    inbound(40000, { protocol: "udp", sourcePort: 53 }),
    "accept zone 1",
    "R1",
  ],
  [
    1,
    "2.9",
    "proxy's answer",
    (f) => ({
      protocol: "udp",
      uid: SIDECAR,
      source: HOME[f],
      sourcePort: 15053,
      destination: POD[f],
      destinationPort: 40000,
      conntrackState: "established",
    }),
    "accept zone 2",
    "R3",
  ],
  [3, "2.9", "peer to a gateway", inbound(8080), "accept", "I1"],
  [5, "2.9", "UID 1234 to 80", () => ({ uid: 1234 }), "accept", "O2"],
  [5, "2.9", "UID 1234 to 81", () => ({ uid: 1234, destinationPort: 81 }), "15001", "D2"],
  [5, "2.9", "UID 66 to 2050", () => ({ uid: 66, destinationPort: 2050 }), "accept", "O2"],
  [5, "2.9", "UID 71 to 2050", () => ({ uid: 71, destinationPort: 2050 }), "15001", "D2"],
  [
    5,
    "2.9",
    "nobody's packet to 80",
    () => {
      return { conntrackState: "new" };
    },
    "15001",
    "D2",
  ],
  [
    6,
    "2.9",
    "DNS to another server",
    (f) => ({
      ...dns(APP)(f),
      destination: PEER[f],
    }),
    "accept",
    undefined,
  ],
  [9, "2.9", "an invalid packet", inbound(8080, { conntrackState: "invalid" }), "drop", "X1"],
  [
    10,
    "2.9",
    "a virtual machine's TCP",
    (f) => ({
      ...inbound(80)(f),
      inputInterface: f === "ipv4" ? "cni7" : "veth6",
    }),
    "15001",
    "P4",
  ],
  [
    10,
    "2.9",
    "a virtual machine's DNS",
    (f) => ({
      ...inbound(53, { protocol: "udp" })(f),
      inputInterface: f === "ipv4" ? "eth7" : "veth6",
    }),
    "15053",
    "P3",
  ],
  [
    10,
    "2.9",
    "within the virtual network",
    (f) => ({
      ...inbound(80)(f),
      inputInterface: f === "ipv4" ? "eth7" : "veth6",
      destination: f === "ipv4" ? "10.70.3.4" : "fd77::9",
    }),
    "15006",
    "D1",
  ],
  [11, "2.9", "an included port", () => ({ destinationPort: 443 }), "15001", "D2"],
  [11, "2.9", "a port that is not included", () => ({ destinationPort: 81 }), "accept", undefined],
  [12, "2.9", "outbound off", () => ({}), "accept", "M1"],
  [13, "3", "DNS over TCP after the jump", dns(APP, "tcp"), "15001", "D2"],
  [14, "2.9", "sidecar under another UID", () => ({ uid: 1001 }), "accept", "M6"],
  [15, "2.9", "sidecar DNS through Docker", dns(SIDECAR), "15053", "O5"],
];

Deno.test("packets end where the reference sends them, in both families", () => {
  for (const [vector, version, name, sketch, end, lastRule] of cases) {
    const ruleset = vectorRuleset(vector, version);
    for (const family of ["ipv4", "ipv6"] as const) {
      const result = evaluate(ruleset, packet(family, sketch));
      const { verdict } = result;
      const zone = result.conntrackZone === undefined ? "" : ` zone ${result.conntrackZone}`;
      const about = `C${vector} ${version} ${family}: ${name}`;
      assert.equal((verdict.kind === "redirect" ? verdict.port : verdict.kind) + zone, end, about);
      const matched = result.steps.filter((step) => step.matched);
      // A jump that came back is not what decided.
      const last = matched.filter(({ rule }) => rule.verdict.kind !== "jump").at(-1);
      assert.equal(last?.rule.id, lastRule, about);
    }
  }
});

Deno.test("the first conntrack zone wins", () => {
  const { steps, conntrackZone } = evaluate(vectorRuleset(1), packet("ipv4", dns(SIDECAR)));
  assert.equal(conntrackZone, 1);
  assert.deepEqual(
    steps.filter((step) => step.table === "raw").map((step) => [step.rule.id, step.because]),
    [
      ["R2", "conntrack zone 1"],
      ["R3", "source port 40000 is not 15053"],
      ["R4", "no effect: zone 1 was chosen before"],
    ],
  );
});

Deno.test("a packet without a socket meets negated owner conditions only", () => {
  const { uid: _, ...ownerless } = packet("ipv4", (f) => ({ destination: HOME[f] }));
  const { steps, verdict } = evaluate(vectorRuleset(1), ownerless);
  assert.deepEqual(verdict, { kind: "accept" });
  assert.deepEqual(steps.map(({ rule, matched }) => matched && rule.id).filter(Boolean), [
    "O7",
    "M5",
  ]);
  const outside = { ...ownerless, destination: PEER.ipv4 };
  assert.deepEqual(evaluate(vectorRuleset(1), outside).verdict, { kind: "redirect", port: 15001 });
});

Deno.test("an invalid packet to the pod itself is dropped when it comes in again", () => {
  for (const family of ["ipv4", "ipv6"] as const) {
    const invalid = packet(family, (f) => ({
      source: POD[f],
      destination: POD[f],
      conntrackState: "invalid",
    }));
    const { verdict, steps } = evaluate(vectorRuleset(9), invalid);
    assert.deepEqual(verdict, { kind: "drop" });
    assert.deepEqual(steps.map(({ chain, rule }) => [chain, rule.id]), [["PREROUTING", "X1"]]);
    const outside = { ...invalid, destination: PEER[family] };
    assert.deepEqual(evaluate(vectorRuleset(9), outside).verdict, { kind: "accept" });
  }
});

Deno.test("a family without rules is accepted, and said so", () => {
  const ruleset = compileRuleset(
    { ...vectorConfig(readVectors()[1]!, "3"), ipFamilyMode: "ipv4" },
    {
      ...vectorFacts(readVectors()[1]!),
    },
  );
  assert.deepEqual(evaluate(ruleset, packet("ipv6", () => ({}))), {
    verdict: { kind: "accept" },
    steps: [],
    notes: ["There are no rules for IPv6"],
  });
});

Deno.test("an address of another family is refused", () => {
  assert.throws(
    () => evaluate(vectorRuleset(1), packet("ipv6", () => ({ source: "10.0.0.1" }))),
    /The source "10\.0\.0\.1" is not an IPv6 address/,
  );
});
