/**
 * Ruleset → tables of nf_tables, still as plain data. Both families go into one `inet` table where
 * the kernel can, with rules that are the same in both families written once.
 */
import type { IpFamily } from "../../ip/address.ts";
import { NFT_TABLE, nftChainName, type NftHook, nftHook } from "../../redirect/nft_layout.ts";
import type { FamilyRuleset, Rule, Ruleset } from "../../redirect/ruleset.ts";

/** Families of nf_tables in use. */
export type NftFamily = "inet" | "ip" | "ip6";

/** A rule and the family that it is limited to; both when absent. */
export interface PlannedRule {
  readonly rule: Rule;
  readonly family: IpFamily | undefined;
}

/** A chain; `hook` is set for base chains, whose policy is accept. */
export interface PlannedChain {
  readonly name: string;
  readonly hook: NftHook | undefined;
  readonly rules: readonly PlannedRule[];
}

/** A table with its chains in order of creation. */
export interface PlannedTable {
  readonly family: NftFamily;
  readonly name: string;
  readonly chains: readonly PlannedChain[];
}

/** `inet`: one table for both families; `per-family`: tables `ip` and `ip6`. */
export type Layout = "inet" | "per-family";

/**
 * Plans the tables of a ruleset. A ruleset of one family gets a table of that family in any layout.
 *
 * @throws {TypeError} when two chains would have the same name.
 */
export function planTables(ruleset: Ruleset, layout: Layout): PlannedTable[] {
  const families = ruleset.families.filter(({ tables }) => tables.length > 0);
  const [first, second] = families;
  if (layout === "inet" && first !== undefined && second !== undefined) {
    return [{ family: "inet", name: NFT_TABLE, chains: mergeChains(first, second) }];
  }
  return families.map((family) => ({
    family: family.family === "ipv4" ? "ip" : "ip6",
    name: NFT_TABLE,
    chains: [
      ...chainsOf(family).map((chain) => ({ ...chain, rules: chain.rules.map(unlimited) })),
      ...emptyNatChains(family),
    ],
  }));
}

interface NamedChain {
  readonly name: string;
  readonly hook: NftHook | undefined;
  readonly rules: readonly Rule[];
}

function chainsOf({ family, tables }: FamilyRuleset): NamedChain[] {
  const chains = tables.flatMap((table) =>
    table.chains.map((chain) => ({
      name: nftChainName(table.name, chain),
      hook: chain.base ? nftHook(table.name, chain) : undefined,
      rules: chain.rules,
    }))
  );
  const names = new Set<string>();
  for (const { name } of chains) {
    if (names.has(name)) throw new TypeError(`Chain "${name}" is there twice for ${family}`);
    names.add(name);
  }
  return chains;
}

/** Kernels before 4.18 translate the packets of a connection back only if these chains exist. */
function emptyNatChains({ tables }: FamilyRuleset): PlannedChain[] {
  if (!tables.some(({ name }) => name === "nat")) return [];
  return [
    {
      name: "nat_input",
      hook: { type: "nat", hook: "input", priority: 100 },
      rules: [],
    },
    {
      name: "nat_postrouting",
      hook: { type: "nat", hook: "postrouting", priority: 100 },
      rules: [],
    },
  ];
}

function unlimited(rule: Rule): PlannedRule {
  return { rule, family: undefined };
}

function mergeChains(first: FamilyRuleset, second: FamilyRuleset): PlannedChain[] {
  const [ours, theirs] = [chainsOf(first), chainsOf(second)];
  const merged = ours.map((chain) => {
    const other = theirs.find(({ name }) => name === chain.name);
    const rules = mergeRules(chain.rules, first.family, other?.rules ?? [], second.family);
    return { name: chain.name, hook: earlierHook(chain.hook, other?.hook), rules };
  });
  const alone = theirs.filter(({ name }) => !ours.some((chain) => chain.name === name))
    .map(({ name, hook, rules }) => ({
      name,
      hook,
      rules: mergeRules([], first.family, rules, second.family),
    }));
  // Base chains first, as in each family.
  return [...merged, ...alone].sort((a, b) =>
    Number(b.hook !== undefined) - Number(a.hook !== undefined)
  );
}

/** One family may want to stand before foreign rules where the other has nothing to insert. */
function earlierHook(a: NftHook | undefined, b: NftHook | undefined): NftHook | undefined {
  return a === undefined || b === undefined || a.priority <= b.priority ? a ?? b : b;
}

/**
 * Merges the rules of two families into one list that keeps the order within each family. Rules that
 * both have are listed once.
 */
function mergeRules(
  first: readonly Rule[],
  firstFamily: IpFamily,
  second: readonly Rule[],
  secondFamily: IpFamily,
): PlannedRule[] {
  const keys = second.map((rule) => JSON.stringify(rule));
  const places = new Map<string, number[]>();
  for (const [index, key] of keys.entries()) {
    const list = places.get(key);
    if (list === undefined) places.set(key, [index]);
    else list.push(index);
  }
  const merged: PlannedRule[] = [];
  let next = 0;
  const catchUp = (end: number) => {
    for (; next < end; next++) merged.push({ rule: second[next]!, family: secondFamily });
  };
  for (const rule of first) {
    const place = places.get(JSON.stringify(rule))?.find((index) => index >= next);
    if (place === undefined) {
      merged.push({ rule, family: firstFamily });
    } else {
      catchUp(place);
      merged.push({ rule, family: undefined });
      next = place + 1;
    }
  }
  catchUp(second.length);
  return merged;
}
