import assert from "node:assert/strict";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { planTables } from "../src/engine/nftables/plan.ts";
import { createNamespace } from "./support/topology.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { nftText } from "../src/redirect/nft_text.ts";
import type { Ruleset } from "../src/redirect/ruleset.ts";
import { parseUidExclusions } from "../src/pod/uid_exclusions.ts";
import { parseCidrs } from "../src/pod/networks.ts";
import { tool } from "./support/iptables.ts";
import { readVectors, vectorConfig, vectorFacts } from "./support/vectors.ts";

/** What `nft` lists after our text went in, and after the engine installed the ruleset. */
function listings(ruleset: Ruleset, comments: boolean): [text: string, engine: string] {
  using first = createNamespace();
  using second = createNamespace();
  const fromText = first.run(() => {
    tool("nft", ["-f", "-"], nftText(planTables(ruleset, "inet"), { comments }));
    return tool("nft", ["-n", "list", "ruleset"]);
  });
  const fromEngine = second.run(() => {
    new NftablesEngine().apply(ruleset);
    return tool("nft", ["-n", "list", "ruleset"]);
  });
  // The engine's comments may be longer than those that nft takes.
  const plain = (listing: string) => listing.replaceAll(/ comment "[^"]*"/g, "");
  assert.ok(comments === fromText.includes(" comment "), fromText);
  return [plain(fromText), plain(fromEngine)];
}

Deno.test("the nft text of every vector is what the engine installs", () => {
  for (const vector of readVectors()) {
    for (const version of ["2.9", "3"] as const) {
      const ruleset = compileRuleset(vectorConfig(vector, version), vectorFacts(vector));
      const [text, engine] = listings(ruleset, true);
      assert.equal(text, engine, `${vector.name} ${version}`);
      assert.ok(engine.includes("KUMA_MESH_OUTBOUND"), engine);
    }
  }
});

Deno.test("the nft text of odd prefixes, overlapping ports and one family is what the engine installs", () => {
  const config: RedirectConfig = {
    ...defaultRedirectConfig,
    inbound: {
      ...defaultRedirectConfig.inbound,
      ipv6Port: 15010,
      excludeIps: parseCidrs(["10.0.0.0/9,172.16.3.0/23,2001:db8::/33,fd00::/7"], "x"),
    },
    outbound: {
      ...defaultRedirectConfig.outbound,
      excludeUids: parseUidExclusions(["tcp:80-90,85-95,96,22:7-4294967294", "udp:*:0"], "x"),
    },
    comments: false,
  };
  for (const ipFamilyMode of ["dualstack", "ipv4", "ipv6"] as const) {
    const ruleset = compileRuleset({ ...config, ipFamilyMode }, vectorFacts(readVectors()[0]!));
    const [text, engine] = listings(ruleset, false);
    assert.equal(text, engine, ipFamilyMode);
  }
});
