/**
 * The check of Kuma's init container `kuma-validation` against each engine, in both families: it
 * passes with the rules, and fails without them or without any one that it depends on.
 */
import assert from "node:assert/strict";
import type { Engine } from "../src/engine/engine.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { createNamespace, setLinkUp } from "./support/topology.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import type { IpFamily } from "../src/ip/address.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import type { Rule, Ruleset } from "../src/redirect/ruleset.ts";
// Loads the iptables engine's libraries, which Deno's tests would take for a leak.
import "./support/iptables.ts";
import { validateRedirection } from "./support/validator.ts";

const FAMILIES: readonly IpFamily[] = ["ipv4", "ipv6"];

const dnsConfig: RedirectConfig = {
  ...defaultRedirectConfig,
  dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
};

function compile(config: RedirectConfig): Ruleset {
  return compileRuleset(config, {
    loopback: "lo",
    ipv6: true,
    dockerOutput: { ipv4: false, ipv6: false },
    conntrackZones: true,
  });
}

/** A ruleset without some of its rules. */
function without(ruleset: Ruleset, isMissing: (rule: Rule, family: IpFamily) => boolean): Ruleset {
  return {
    ...ruleset,
    families: ruleset.families.map(({ family, tables }) => ({
      family,
      tables: tables.map((table) => ({
        ...table,
        chains: table.chains.map((chain) => ({
          ...chain,
          rules: chain.rules.filter((rule) => !isMissing(rule, family)),
        })),
      })),
    })),
  };
}

/** Families in which the check fails. */
function failures(options: { inboundPort?: number; sidecarUid?: number } = {}): string[] {
  return validateRedirection({ families: FAMILIES, ...options }).map((text) => text.slice(0, 4));
}

const engines: readonly (readonly [name: string, engine: Engine])[] = [
  ["nftables", new NftablesEngine()],
  ["nftables, tables for each family", new NftablesEngine("per-family")],
  ["iptables-nft", new IptablesEngine({ backend: "nft" })],
  ["iptables-legacy", new IptablesEngine({ backend: "legacy" })],
];

for (const [name, engine] of engines) {
  Deno.test(`the check of kuma-validation passes with the rules only (${name})`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      setLinkUp("lo");
      assert.deepEqual(failures(), ["ipv4", "ipv6"]);
      for (const rulesVersion of ["2.9", "3"] as const) {
        engine.apply(compile({ ...dnsConfig, rulesVersion }));
        assert.deepEqual(failures(), [], rulesVersion);
      }
      engine.remove();
      assert.deepEqual(failures(), ["ipv4", "ipv6"]);
    });
  });

  Deno.test(`the check of kuma-validation misses each rule that it needs (${name})`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      setLinkUp("lo");
      const whole = compile(dnsConfig);
      for (const id of ["O7", "M4", "D1"]) {
        for (const family of FAMILIES) {
          engine.apply(without(whole, (rule, where) => rule.id === id && where === family));
          assert.deepEqual(failures(), [family], id);
        }
      }
      // What it does not look at.
      engine.apply(without(whole, ({ id }) => ["P2", "O4", "O5", "R1", "M10", "D2"].includes(id)));
      assert.deepEqual(failures(), []);
    });
  });

  Deno.test(`the check of kuma-validation follows port, user and family (${name})`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      setLinkUp("lo");
      const inbound = { ...defaultRedirectConfig.inbound, port: 25006 };
      engine.apply(compile({ ...defaultRedirectConfig, inbound, sidecarUid: 1001 }));
      assert.deepEqual(failures({ inboundPort: 25006, sidecarUid: 1001 }), []);
      assert.deepEqual(failures({ inboundPort: 25006 }), ["ipv4", "ipv6"]);
      assert.deepEqual(failures({ sidecarUid: 1001 }), ["ipv4", "ipv6"]);
      for (const [mode, failing] of [["ipv4", "ipv6"], ["ipv6", "ipv4"]] as const) {
        engine.apply(compile({ ...defaultRedirectConfig, ipFamilyMode: mode }));
        assert.deepEqual(failures(), [failing]);
      }
    });
  });
}
