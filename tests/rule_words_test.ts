/** Differences in rules are told in the words that people know from `nft`. */
import assert from "node:assert/strict";
import { encodeTables } from "../src/engine/nftables/encode.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { planTables } from "../src/engine/nftables/plan.ts";
import { describePortSet } from "../src/engine/nftables/read_back.ts";
import { ruleWords } from "../src/engine/nftables/words.ts";
import { createNamespace } from "./support/topology.ts";
import { parseCidrs } from "../src/pod/networks.ts";
import { parseUidExclusions } from "../src/pod/uid_exclusions.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { nftText } from "../src/redirect/nft_text.ts";
import type { Ruleset } from "../src/redirect/ruleset.ts";
import { nftScript } from "./support/nft.ts";
import { readVectors, vectorConfig, vectorFacts } from "./support/vectors.ts";

const facts = vectorFacts(readVectors()[0]!);

/** The lines of rules in the text form of a ruleset, and the words for what the engine sends. */
function bothForms(ruleset: Ruleset, layout: "inet" | "per-family"): [string[], string[]] {
  const planned = planTables(ruleset, layout);
  const text = nftText(planned).split("\n").map((line) => line.trim())
    .filter((line) => line !== "" && !/[{}]$|^type /.test(line) || / \{ .* \} /.test(line));
  const words = encodeTables(planned, false).flatMap(({ family, chains }) =>
    chains.flatMap(({ rules }) =>
      rules.map(({ expressions, sets }) =>
        ruleWords(
          expressions,
          family,
          (_, id) => describePortSet(sets.find((set) => set.id === id)!),
        )
      )
    )
  );
  return [text, words];
}

Deno.test("the words for what is sent are the text form of the rule, for every vector", () => {
  for (const layout of ["inet", "per-family"] as const) {
    for (const vector of readVectors()) {
      for (const version of ["2.9", "3"] as const) {
        const ruleset = compileRuleset(vectorConfig(vector, version), vectorFacts(vector));
        const [text, words] = bothForms(ruleset, layout);
        assert.deepEqual(words, text, vector.name);
      }
    }
  }
});

Deno.test("odd prefixes, ranges, sets, interfaces and logs have words, too", () => {
  const config: RedirectConfig = {
    ...defaultRedirectConfig,
    dropInvalidPackets: true,
    log: { enabled: true, level: 7 },
    inbound: {
      ...defaultRedirectConfig.inbound,
      excludeIps: parseCidrs(["10.0.0.0/9,172.16.3.0/23,2001:db8::/33,fd00::/7"], "x"),
    },
    outbound: {
      ...defaultRedirectConfig.outbound,
      excludeUids: parseUidExclusions(["tcp:80-90,85-95,97,22:7-4294967294", "udp:*:0"], "x"),
    },
    virtualNetworks: [
      { interfaceName: "vm+", cidr: { family: "ipv4", address: "10.1.0.0", prefix: 16 } },
    ],
  };
  const [text, words] = bothForms(compileRuleset(config, facts), "inet");
  assert.deepEqual(words, text);
});

Deno.test("what others have made of a rule is told in nft's words, never in numbers of instructions", () => {
  using namespace = createNamespace();
  const ruleset = compileRuleset(
    {
      ...defaultRedirectConfig,
      outbound: { ...defaultRedirectConfig.outbound, excludePorts: [3306] },
    },
    facts,
  );
  const tell = (script: string): (string | undefined)[] => {
    namespace.run(() => new NftablesEngine().apply(ruleset));
    nftScript(namespace, script);
    const differences = namespace.run(() => new NftablesEngine().verify(ruleset));
    return differences.flatMap(({ expected, actual }) => [expected, actual]);
  };
  const chain = "inet kuma_mesh KUMA_MESH_OUTBOUND";
  assert.deepEqual(tell(`delete table ${chain.replace(/ \w+$/, "")}`), [undefined, undefined]);
  assert.equal(tell(`flush chain ${chain}`)[0], "tcp dport 3306 return");
  const foreign = [
    "tcp dport 3307 return",
    "tcp dport { 22, 1000-2000 } accept",
    "ip daddr 10.1.2.3 drop",
    "ip6 daddr 2001:db8::/32 jump KUMA_MESH_INBOUND",
    'iifname "eth7" udp sport != 53 return',
    "meta skuid 1-9 return",
    "ct state established,new accept",
    "meta mark 7 return",
    'log prefix "x" level info',
    "tcp dport 1-1023 redirect to :8080",
    "ip saddr 10.0.0.0/13 accept",
    "ip daddr != 10.1.2.3 ct zone 7 return",
  ];
  for (const rule of foreign) {
    const [wanted, actual] = tell(`insert rule ${chain} ${rule}`);
    assert.deepEqual([wanted, actual], [undefined, rule]);
  }
  const [, odd] = tell(`insert rule ${chain} ip ttl 3 counter limit rate 1/second accept`);
  assert.equal(odd, "meta nfproto ipv4 @nh,64,8 0x03 counter limit accept");
});

Deno.test("a change that the words do not say is told as one", () => {
  using namespace = createNamespace();
  const ruleset = compileRuleset(defaultRedirectConfig, facts);
  namespace.run(() => new NftablesEngine().apply(ruleset));
  const chain = "inet kuma_mesh KUMA_MESH_INBOUND_REDIRECT";
  nftScript(
    namespace,
    `flush chain ${chain}; add rule ${chain} meta l4proto tcp redirect to :15006 random`,
  );
  const [difference, ...more] = namespace.run(() => new NftablesEngine().verify(ruleset));
  assert.deepEqual(more, []);
  assert.equal(difference?.expected, "meta l4proto tcp counter redirect to :15006");
  assert.equal(
    difference?.actual,
    "meta l4proto tcp redirect to :15006 and something that has no words",
  );
});
