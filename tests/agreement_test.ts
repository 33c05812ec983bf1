/**
 * For random configurations and packets, three answers to "where does this packet end?" agree: the
 * evaluator's, the kernel's with the nftables engine, and the kernel's with the iptables engine.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Engine } from "../src/engine/engine.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { addLinkAddress } from "../src/linux/topology.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { evaluate } from "../src/redirect/evaluate.ts";
import type { NamespaceFacts, Ruleset } from "../src/redirect/ruleset.ts";
import {
  agreementLaboratory,
  probe,
  redirectConfig,
  type SourcedProbe,
} from "./support/arbitrary_redirect.ts";
import { type Laboratory, type Landing, POD } from "./support/laboratory.ts";

const facts: NamespaceFacts = {
  loopback: "lo",
  ipv6: true,
  dockerOutput: { ipv4: false, ipv6: false },
  conntrackZones: true,
};
const CLOSED_PORT = 443;
/** How many times the usual number of configurations a long run (`deno task test:long`) tries. */
const factor = Deno.env.get("KUMA_CNI_LONG_TESTS") === "1" ? 100 : 1;

/** Where the evaluator sends a probe, in the words of {@linkcode described}. */
function predicted(ruleset: Ruleset, { to, ...sender }: SourcedProbe): string {
  const family = to.address.includes(":") ? "ipv6" : "ipv4";
  const { verdict } = evaluate(ruleset, {
    family,
    direction: sender.direction,
    protocol: sender.protocol,
    source: sender.source,
    sourcePort: 20000,
    destination: to.address,
    destinationPort: to.port,
    ...(sender.uid === undefined ? {} : { uid: sender.uid }),
  });
  if (verdict.kind === "redirect") return `pod:${verdict.port}`;
  if (verdict.kind === "drop") return "lost";
  if (to.port === CLOSED_PORT) return "refused";
  const inPod = [POD[family], "127.0.0.1", "::1"].includes(to.address);
  return `${inPod ? "pod" : "peer"}:${to.port}`;
}

function described({ end, place, at, answered }: Landing): string {
  return end === "listener" ? `${place}:${at?.port}${answered ? "" : ", no answer"}` : end;
}

function agree(
  lab: Laboratory,
  engine: Engine,
  config: RedirectConfig,
  probes: readonly SourcedProbe[],
): void {
  const ruleset = compileRuleset(config, facts);
  lab.inPod(() => {
    engine.apply(ruleset);
    assert.deepEqual(engine.verify(ruleset), []);
  });
  const differences = probes.flatMap((probe) => {
    const [expected, actual] = [predicted(ruleset, probe), described(lab.probe(probe))];
    return expected === actual ? [] : [{ probe, evaluator: expected, kernel: actual }];
  });
  assert.deepEqual(differences, []);
}

for (
  const [name, engine, runs] of [
    ["nftables", new NftablesEngine(), 300],
    ["iptables-nft", new IptablesEngine({ backend: "nft" }), 40],
    ["iptables-legacy", new IptablesEngine({ backend: "legacy" }), 40],
  ] as const
) {
  Deno.test({
    name: `evaluator and kernel agree about random packets (${name})`,
    sanitizeResources: false, // The iptables engine loads libraries when it first needs them.
    fn: () => {
      using lab = agreementLaboratory();
      // An IPv4-only ruleset does not bring the address that probes use as a source.
      lab.inPod(() => addLinkAddress("lo", "::6/128"));
      fc.assert(
        fc.property(
          redirectConfig,
          fc.array(probe, { minLength: 25, maxLength: 25 }),
          (config, probes) => agree(lab, engine, config, probes),
        ),
        // Shrinking would apply thousands of rulesets; the seed is enough to find the case again.
        { numRuns: runs * factor, endOnFailure: engine.name === "iptables" },
      );
    },
  });
}
