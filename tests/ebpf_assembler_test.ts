/** The assembler of BPF programs writes the bytes that the kernel's documents ask for. */
import assert from "node:assert/strict";
import {
  Assembler,
  Helper,
  ProgramTooLongError,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  stack,
} from "../src/engine/ebpf/assembler.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { cannot } from "../src/engine/ebpf/cannot.ts";
import { explainByEbpf } from "../src/engine/ebpf/explain.ts";
import { evaluate, type Packet } from "../src/redirect/evaluate.ts";
import { listPrograms, planPrograms } from "../src/engine/ebpf/programs.ts";

/** Encodes as bpftool prints raw instructions: eight bytes each, hexadecimal. */
function bytesOf(
  write: (program: Assembler) => unknown,
  maps = new Map<string, number>(),
): string[] {
  const program = new Assembler();
  write(program);
  const bytes = program.assemble(maps);
  return Array.from(
    { length: bytes.length / 8 },
    (_, index) =>
      Array.from(
        bytes.subarray(8 * index, 8 * index + 8),
        (byte) => byte.toString(16).padStart(2, "0"),
      ).join(" "),
  );
}

Deno.test("instructions have the encodings of the kernel's instruction set", () => {
  // From `Documentation/bpf/standardization/instruction-set.rst` and dumps of clang's output.
  const known: [string, (program: Assembler) => unknown, string][] = [
    ["r6 = r1", (p) => p.move(r6, r1), "bf 16 00 00 00 00 00 00"],
    ["r0 = 1", (p) => p.move(r0, 1), "b7 00 00 00 01 00 00 00"],
    ["w1 = -1", (p) => p.move32(r1, -1), "b4 01 00 00 ff ff ff ff"],
    ["w1 = w2", (p) => p.move32(r1, r2), "bc 21 00 00 00 00 00 00"],
    ["r2 += -8", (p) => p.add(r2, -8), "07 02 00 00 f8 ff ff ff"],
    ["r1 |= r2", (p) => p.or(r1, r2), "4f 21 00 00 00 00 00 00"],
    ["w1 &= 255", (p) => p.and32(r1, 255), "54 01 00 00 ff 00 00 00"],
    ["w1 |= 3", (p) => p.or32(r1, 3), "44 01 00 00 03 00 00 00"],
    ["w1 >>= 16", (p) => p.shiftRight32(r1, 16), "74 01 00 00 10 00 00 00"],
    ["r7 = be16 r7", (p) => p.swapPort(r7), "dc 07 00 00 10 00 00 00"],
    ["r1 = *(u32 *)(r6 + 24)", (p) => p.load("word", r1, r6, 24), "61 61 18 00 00 00 00 00"],
    ["r1 = *(u16 *)(r6 + 2)", (p) => p.load("half", r1, r6, 2), "69 61 02 00 00 00 00 00"],
    ["r2 = *(u64 *)(r6 + 64)", (p) => p.load("double", r2, r6, 64), "79 62 40 00 00 00 00 00"],
    ["*(u32 *)(r10 - 4) = r1", (p) => p.store("word", stack, -4, r1), "63 1a fc ff 00 00 00 00"],
    ["*(u64 *)(r10 - 16) = 0", (p) => p.store("double", stack, -16, 0), "7a 0a f0 ff 00 00 00 00"],
    ["*(u16 *)(r1 + 0) = 2", (p) => p.store("half", r1, 0, 2), "6a 01 00 00 02 00 00 00"],
    ["lock *(u64 *)(r0 + 8) += r1", (p) => p.atomicAdd(r0, 8, r1), "db 10 08 00 00 00 00 00"],
    ["call 1", (p) => p.call(Helper.mapLookup), "85 00 00 00 01 00 00 00"],
  ];
  for (const [text, write, encoding] of known) assert.deepEqual(bytesOf(write), [encoding], text);
});

Deno.test("jumps count the instructions between, and maps take two", () => {
  assert.deepEqual(
    bytesOf(
      (program) =>
        program.jumpIf(r0, "==", 0, "end").jumpIf32(r1, "!=", 53, "end").jumpIf(r3, ">", r2, "end")
          .loadMap(r1, "counters").jumpIf32(r1, "<", 0xffffffff, "end").move(r1, 1)
          .label("end").exit(1),
      new Map([["counters", 7]]),
    ),
    [
      "15 00 06 00 00 00 00 00",
      "56 01 05 00 35 00 00 00",
      "2d 23 04 00 00 00 00 00",
      "18 11 00 00 07 00 00 00",
      "00 00 00 00 00 00 00 00",
      "a6 01 01 00 ff ff ff ff",
      "b7 01 00 00 01 00 00 00",
      "b7 00 00 00 01 00 00 00",
      "95 00 00 00 00 00 00 00",
    ],
  );
});

Deno.test("what cannot be reached is left out, since the kernel refuses it", () => {
  const program = new Assembler().jump("end").move(r1, 5).label("nobody").move(r2, 6)
    .jumpIf(r1, "==", 0, "also_nobody").label("also_nobody").label("end").exit(0);
  assert.equal(program.listing(), "  goto end\nend:\n  r0 = 0\n  exit\n");
});

Deno.test("a jump that is too far, a missing label and a missing map are errors", () => {
  const long = new Assembler().jumpIf(r0, "==", 0, "end");
  for (let index = 0; index < 0x8000; index++) long.move(r1, index);
  assert.throws(() => long.label("end").exit(1).assemble(new Map()), ProgramTooLongError);
  assert.throws(() => new Assembler().jump("nowhere").assemble(new Map()), /no label "nowhere"/);
  assert.throws(() => new Assembler().loadMap(r1, "m").assemble(new Map()), /no map "m"/);
});

function rulesetOf(config: Partial<RedirectConfig>, dockerOutput = false) {
  return compileRuleset({ ...defaultRedirectConfig, ...config }, {
    ...{ loopback: "lo", ipv6: true, conntrackZones: true },
    dockerOutput: { ipv4: dockerOutput, ipv6: dockerOutput },
  });
}

Deno.test("what the engine cannot do has a reason, all else has none", () => {
  const dns = { ...defaultRedirectConfig.dns, enabled: true, captureAll: true };
  assert.deepEqual(cannot(rulesetOf({ dns })), []);
  const network = {
    interfaceName: "vnet0",
    cidr: { family: "ipv4", address: "10.7.0.0", prefix: 16 } as const,
  };
  const reasons = [
    ...cannot(rulesetOf({ virtualNetworks: [network] })),
    ...cannot(rulesetOf({ dropInvalidPackets: true })),
    ...cannot(rulesetOf({ log: { enabled: true, level: 7 } })),
    ...cannot(rulesetOf({ dns }, true)),
  ];
  assert.deepEqual(reasons.map((reason) => /\((\w+)\)$/.exec(reason)?.[1]), [
    ...["P3", "P4", "X1", "P1", "O1", "O4"],
  ]);
});

Deno.test("each rule that can match stands in the listing of a program", () => {
  const dns = { ...defaultRedirectConfig.dns, enabled: true, captureAll: true };
  const ruleset = rulesetOf({ dns, rulesVersion: "2.9" });
  const listing = listPrograms(ruleset);
  const rules = ruleset.families.flatMap(({ tables }) => tables)
    .filter(({ name }) => name === "nat").flatMap(({ chains }) => chains)
    .flatMap((chain) => chain.rules);
  assert.ok(rules.length > 20);
  for (const { id, comment } of rules) {
    assert.ok(listing.includes(`; ${id}: ${comment}`), `${id}: ${comment}`);
  }
});

Deno.test("a pod without incoming redirection has no program for it", () => {
  const inbound = { ...defaultRedirectConfig.inbound, enabled: false };
  assert.equal(planPrograms(rulesetOf({ inbound }), "sk_lookup").lookup, undefined);
  assert.notEqual(planPrograms(rulesetOf({}), "sk_lookup").lookup, undefined);
});

Deno.test("the explanation names where the call really goes, or why nothing is seen", () => {
  const dns = { ...defaultRedirectConfig.dns, enabled: true, captureAll: true };
  const nobodys: Packet = {
    ...{ family: "ipv4", direction: "outbound", protocol: "tcp" },
    ...{ source: "10.9.0.2", sourcePort: 40000, destination: "10.1.2.3", destinationPort: 80 },
  };
  const explain = (
    packet: Partial<Packet>,
    config: Partial<RedirectConfig> = { dns },
    usual: Packet = { ...nobodys, uid: 1000 },
  ) => {
    const ruleset = rulesetOf(config);
    const whole = { ...usual, ...packet };
    return explainByEbpf(whole, evaluate(ruleset, whole), ruleset).join("; ");
  };
  assert.match(explain({}), /connects to 127\.15\.2\.3 port 15001 .* peer is 10\.1\.2\.3 port 80/);
  assert.match(explain({ uid: 5678 }), /let the call pass/);
  assert.match(explain({ protocol: "udp", destinationPort: 53 }), /to 127\.0\.0\.1 port 15053/);
  assert.match(explain({ conntrackState: "established" }), /see no packet after that/);
  assert.match(explain({}, { dns }, nobodys), /no process sends this packet/);
  assert.match(
    explain({ direction: "inbound" }, { dns }, nobodys),
    /listener of port 15006; its own address stays 10\.1\.2\.3 port 80/,
  );
  assert.match(explain({}, { dropInvalidPackets: true }), /so nftables has them; .*\(X1\)/);
});
