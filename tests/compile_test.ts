import assert from "node:assert/strict";
import { parseUidExclusions } from "../src/pod/uid_exclusions.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { ruleText } from "../src/redirect/iptables_text.ts";
import type { NamespaceFacts, Rule, Ruleset } from "../src/redirect/ruleset.ts";

const facts: NamespaceFacts = {
  loopback: "lo",
  ipv6: true,
  dockerOutput: { ipv4: false, ipv6: false },
  conntrackZones: true,
};

function rules(ruleset: Ruleset, family = "ipv4"): Rule[] {
  return ruleset.families.filter((entry) => entry.family === family)
    .flatMap(({ tables }) => tables.flatMap(({ chains }) => chains.flatMap(({ rules }) => rules)));
}

const modes: [
  mode: RedirectConfig["ipFamilyMode"],
  ipv6: boolean,
  families: string,
  lo: boolean,
][] = [
  ["dualstack", true, "ipv4,ipv6", true],
  ["dualstack", false, "ipv4", false],
  ["ipv4", true, "ipv4", false],
  ["ipv4", false, "ipv4", false],
  ["ipv6", true, "ipv6", true],
  ["ipv6", false, "ipv6", false],
];

for (const [ipFamilyMode, ipv6, families, passthrough] of modes) {
  Deno.test(`mode ${ipFamilyMode} in a namespace ${ipv6 ? "with" : "without"} IPv6`, () => {
    const ruleset = compileRuleset({ ...defaultRedirectConfig, ipFamilyMode }, { ...facts, ipv6 });
    assert.equal(ruleset.families.map(({ family }) => family).join(), families);
    assert.equal(ruleset.ipv6PassthroughAddress, passthrough);
  });
}

Deno.test("an IPv6 inbound port of its own is used for IPv6 only", () => {
  const config = {
    ...defaultRedirectConfig,
    inbound: { ...defaultRedirectConfig.inbound, ipv6Port: 15010 },
  };
  const ports = ["ipv4", "ipv6"].map((family) =>
    rules(compileRuleset(config, facts), family).filter(({ id }) => id === "D1")
      .map(({ verdict }) => verdict.kind === "redirect" ? verdict.port : undefined)
  );
  assert.deepEqual(ports, [[15006], [15010]]);
});

Deno.test("without conntrack zones, no raw table is made", () => {
  const config = {
    ...defaultRedirectConfig,
    dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
  };
  const tables = (conntrackZones: boolean) =>
    compileRuleset(config, { ...facts, conntrackZones }).families[0]!.tables.map(({ name }) =>
      name
    );
  assert.deepEqual([tables(true), tables(false)], [["raw", "nat"], ["nat"]]);
});

Deno.test("UID exclusions of many ports are split into rules that a multiport match can hold", () => {
  const entry = `tcp:${Array.from({ length: 20 }, (_, i) => 100 + i)},200-300,400-500:7`;
  const config = {
    ...defaultRedirectConfig,
    outbound: { ...defaultRedirectConfig.outbound, excludeUids: parseUidExclusions([entry], "x") },
  };
  const texts = rules(compileRuleset(config, facts)).filter(({ id }) => id === "O2")
    .map((rule) => ruleText(rule));
  assert.deepEqual(texts, [
    "-p tcp -m multiport --dports 100,101,102,103,104,105,106,107,108,109,110,111,112,113,114 " +
    "-m owner --uid-owner 7 -j RETURN",
    "-p tcp -m multiport --dports 115,116,117,118,119,200:300,400:500 " +
    "-m owner --uid-owner 7 -j RETURN",
  ]);
});

const everything = { family: "ipv4", address: "0.0.0.0", prefix: 0 } as const;

Deno.test("a condition that every packet meets is left out of the text, as the tool does", () => {
  const outbound = { ...defaultRedirectConfig.outbound, excludeIps: [everything] };
  const [rule] = rules(compileRuleset({ ...defaultRedirectConfig, outbound }, facts))
    .filter(({ id }) => id === "O3");
  assert.equal(ruleText(rule!), "-j RETURN");
});

Deno.test("nothing leaves a virtual network of all addresses, so no rule says so", () => {
  const networks = [{ interfaceName: "vm+", cidr: everything }];
  const ids = rules(compileRuleset({ ...defaultRedirectConfig, virtualNetworks: networks }, facts))
    .map(({ id }) => id);
  assert.ok(ids.includes("P3") && ids.includes("P5"));
  assert.ok(!ids.includes("P4"));
});

Deno.test("a loopback interface of another name is quoted when it must be", () => {
  const text = (loopback: string) =>
    ruleText(
      rules(compileRuleset(defaultRedirectConfig, { ...facts, loopback }))
        .find(({ id }) => id === "M3")!,
    );
  assert.equal(text("lo0"), "-s 127.0.0.6/32 -o lo0 -j RETURN");
  assert.equal(text('l"o\\'), '-s 127.0.0.6/32 -o "l\\"o\\\\" -j RETURN');
  assert.throws(() => text("l\no"), /control character/);
});
