/**
 * The rules of nftables by which incoming connections are redirected where `sk_lookup` cannot, in the
 * table of that engine.
 */
import { EPROTONOSUPPORT, LinuxError } from "../../linux/errno.ts";
import type { FamilyRuleset, Ruleset } from "../../redirect/ruleset.ts";
import { type Difference, EngineError } from "../engine.ts";
import { NftablesEngine } from "../nftables/nftables_engine.ts";
import type { Undo } from "./attach.ts";

/** Installs them. The rules that were in the table before cannot be put back. */
export function installInboundRules(ruleset: Ruleset, undo: Undo): void {
  const nftables = new NftablesEngine();
  nftables.apply(inboundRuleset(ruleset));
  undo.add(() => nftables.remove());
}

/** Compares them with what is there. */
export function inboundRulesDifferences(ruleset: Ruleset): readonly Difference[] {
  return new NftablesEngine().verify(inboundRuleset(ruleset));
}

/** Tells whether the table of nftables has any rules. */
export function hasNftablesRules(): boolean {
  const nothing = { families: [], comments: false, ipv6PassthroughAddress: false };
  return whereKnown((nftables) => nftables.verify(nothing).length > 0);
}

/** Removes the table of nftables, whatever is in it. */
export function removeNftablesRules(): void {
  whereKnown((nftables) => nftables.remove());
}

const INBOUND_CHAINS = new Set([
  ...["PREROUTING", "KUMA_MESH_INBOUND", "KUMA_MESH_INBOUND_REDIRECT"],
]);

/** Nothing for outgoing traffic, and `::6` is the business of the whole. */
function inboundRuleset(ruleset: Ruleset): Ruleset {
  const families = ruleset.families.map(({ family, tables }): FamilyRuleset => ({
    family,
    tables: tables.filter(({ name }) => name === "nat").map((table) => ({
      ...table,
      chains: table.chains.filter(({ name }) => INBOUND_CHAINS.has(name)),
    })),
  }));
  return { ...ruleset, families, ipv6PassthroughAddress: false };
}

/** A kernel without nf_tables has no rules in it. */
function whereKnown(work: (nftables: NftablesEngine) => boolean): boolean {
  try {
    return work(new NftablesEngine());
  } catch (error) {
    const cause = error instanceof EngineError ? error.cause : undefined;
    if (cause instanceof LinuxError && cause.errno === EPROTONOSUPPORT) return false;
    throw error;
  }
}
