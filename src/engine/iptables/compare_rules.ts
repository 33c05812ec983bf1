/** Compares what `iptables-save` printed with the rules that should be there. */
import type { IpFamily } from "../../ip/address.ts";
import type { Chain, FamilyRuleset, Rule } from "../../redirect/ruleset.ts";
import { ruleText } from "../../redirect/iptables_text.ts";
import type { Difference } from "../engine.ts";
import { canonicalRule } from "./canonical_rule.ts";
import { ownChainTest } from "./own_chains.ts";
import { findOwnRules } from "./own_rules.ts";
import { optionValue, parseOptions, type SavedChain, type SavedTables } from "./saved_rules.ts";

/**
 * Compares our rules of one family with those expected, chain by chain and rule by rule; rules of
 * others are passed over.
 *
 * @param family whose rules these are
 * @param saved the family's rules as they are
 * @param expected the rules that should be there; without it none of ours should
 * @returns the differences, none when equal
 */
export function compareRules(
  family: IpFamily,
  saved: SavedTables,
  expected: FamilyRuleset | undefined,
): Difference[] {
  const own = findOwnRules(saved, expected, false);
  const isOwn = ownChainTest(saved);
  return pairChains(saved, expected).flatMap(({ table, name, target, actual }) => {
    const place = `${family === "ipv4" ? "ip" : "ip6"} ${table} ${name}`;
    if (actual === undefined && target !== undefined && !target.base) {
      return [{ kind: "missing", object: `chain ${place}` } as const];
    }
    if (actual !== undefined && target === undefined && isOwn(table, name)) {
      return [{ kind: "unexpected", object: `chain ${place}` } as const];
    }
    const flags = own.get(table)?.get(name);
    const ours = actual?.rules.filter((_, i) => flags?.[i]) ?? [];
    return compareChain(place, target, ours);
  });
}

/** A chain as it should be and as it is; one of both can be missing. */
interface ChainPair {
  readonly table: string;
  readonly name: string;
  readonly target: Chain | undefined;
  readonly actual: SavedChain | undefined;
}

/** Every chain that is there or should be. */
function pairChains(saved: SavedTables, expected: FamilyRuleset | undefined): ChainPair[] {
  const tables = new Set([...expected?.tables.map(({ name }) => name) ?? [], ...saved.keys()]);
  return [...tables].flatMap((table) => {
    const targets = expected?.tables.find(({ name }) => name === table)?.chains ?? [];
    const chains = saved.get(table);
    const names = new Set([...targets.map(({ name }) => name), ...chains?.keys() ?? []]);
    return [...names].map((name) => ({
      table,
      name,
      target: targets.find((chain) => chain.name === name),
      actual: chains?.get(name),
    }));
  });
}

function compareChain(
  place: string,
  target: Chain | undefined,
  actual: readonly string[],
): Difference[] {
  const expected = target?.rules ?? [];
  const differences: Difference[] = [];
  for (let i = 0; i < Math.max(expected.length, actual.length); i++) {
    const rule = expected[i];
    const text = actual[i];
    const object = `${place} rule ${i + 1}${rule === undefined ? "" : ` (${rule.id})`}`;
    if (rule === undefined) {
      if (text !== undefined) differences.push({ kind: "unexpected", object, actual: text });
    } else if (text === undefined) {
      differences.push({ kind: "missing", object, expected: ruleText(rule) });
    } else if (!equals(rule, text)) {
      differences.push({ kind: "changed", object, expected: ruleText(rule), actual: text });
    }
  }
  return differences;
}

function equals(rule: Rule, saved: string): boolean {
  const text = ruleText(rule);
  return text === saved || canonicalRule(text) === canonicalRule(saved);
}

/**
 * Whether the family's rules are exactly those that an apply would leave: ours with their comments,
 * the inserted ones before those of others, the appended ones after them.
 *
 * @param comments whether the rules should carry their comments
 */
export function isInPlace(
  saved: SavedTables,
  expected: FamilyRuleset | undefined,
  comments: boolean,
): boolean {
  const own = findOwnRules(saved, expected);
  const isOwn = ownChainTest(saved);
  return pairChains(saved, expected).every(({ table, name, target, actual }) => {
    if (isOwn(table, name) && (target === undefined || actual === undefined)) return false;
    const present = actual?.rules ?? [];
    const foreign = present.filter((_, i) => !own.get(table)?.get(name)?.[i]);
    const rules = (placement: Rule["placement"]) =>
      target?.rules.filter((rule) => rule.placement === placement)
        .map((rule) => ruleText(rule, { comments })) ?? [];
    const expected = isOwn(table, name)
      ? target?.rules.map((rule) => ruleText(rule, { comments })) ?? []
      : [...rules("insert"), ...foreign, ...rules("append")];
    return expected.length === present.length &&
      expected.every((text, i) => sameWithComment(text, present[i] ?? ""));
  });
}

function sameWithComment(a: string, b: string): boolean {
  if (a === b) return true;
  const comment = (text: string) => optionValue(parseOptions(text), "--comment");
  return canonicalRule(a) === canonicalRule(b) && comment(a) === comment(b);
}
