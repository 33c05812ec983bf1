/** Many random changes of a pod's rules, each found and put back. */
import assert from "node:assert/strict";
import { readNamespaceFacts } from "../../src/engine/choice/facts.ts";
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import { networkNamespaceIdentity } from "../../src/linux/namespace_identity.ts";
import { withNetworkNamespace } from "../../src/linux/network_namespace.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import { lookAtSandbox } from "../../installer/ledger/look.ts";
import { Dice } from "./damage.ts";
import { ledgerEntry } from "./ledger_entries.ts";
import { listRuleset } from "./nft.ts";
import { drift } from "./random_drift.ts";
import { createNamespace } from "./topology.ts";

/** Drifts so many times; after each, the rules are what they were before, byte for byte. */
export function repairDrifts(count: number, seed: number): void {
  using namespace = createNamespace();
  const dice = new Dice(seed);
  const config = {
    ...defaultRedirectConfig,
    outbound: { ...defaultRedirectConfig.outbound, excludePorts: [3306, 9092, 27017] },
  };
  const [ruleset, identity] = withNetworkNamespace(namespace.path, () => {
    const ruleset = compileRuleset(config, readNamespaceFacts());
    new NftablesEngine().apply(ruleset);
    return [ruleset, networkNamespaceIdentity()] as const;
  });
  const entry = ledgerEntry({ config, netns: namespace.path, namespace: identity });
  const right = listRuleset(namespace);
  for (let i = 0; i < count; i++) {
    const what = withNetworkNamespace(namespace.path, () => drift(ruleset, dice));
    const label = `drift ${i} of seed ${seed}: ${what}`;
    const look = lookAtSandbox(namespace.path, entry, { repair: true });
    // Some changes undo each other; then there is nothing to repair.
    assert.ok(look.kind === "repaired" || look.kind === "equal", `${label}: ${look.kind}`);
    if (!what.includes(",")) assert.equal(look.kind, "repaired", label);
    assert.deepEqual(lookAtSandbox(namespace.path, entry), { kind: "equal" }, label);
    if (i % 100 === 0 || i === count - 1) assert.equal(listRuleset(namespace), right, label);
  }
}
