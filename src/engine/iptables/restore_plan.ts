/**
 * Text for `iptables-restore --noflush` that turns the rules of a family into others, touching
 * nothing but ours: their deletion and the new rules stand in the same text, so that each table
 * changes in one step of the kernel.
 */
import type { FamilyRuleset } from "../../redirect/ruleset.ts";
import { restoreLines } from "../../redirect/iptables_text.ts";
import { isInPlace } from "./compare_rules.ts";
import { findOwnRules, isOwnChain } from "./own_rules.ts";
import { checkChainName, checkTableName, rewriteRule } from "./rewrite_rule.ts";
import type { SavedTables } from "./saved_rules.ts";

/** Order of tables in the text, as the reference implementation writes them; others come after. */
const TABLE_ORDER = ["raw", "nat", "mangle"];

/**
 * Writes the text that removes our rules and installs a ruleset in their place.
 *
 * @param saved the family's rules as they are
 * @param wanted the rules to install; without it ours are only removed
 * @param comments whether rules carry their comments
 * @returns the text, empty when there is nothing to do
 */
export function planRestore(
  saved: SavedTables,
  wanted: FamilyRuleset | undefined,
  comments: boolean,
): string {
  if (isInPlace(saved, wanted, comments)) return "";
  return writeTables(saved, wanted, (table) => {
    const target = wanted?.tables.find(({ name }) => name === table);
    return {
      chains: target?.chains.filter(({ base }) => !base).map(({ name }) => name) ?? [],
      lines: target === undefined
        ? []
        : restoreLines(target, { comments }).filter((line) => !line.startsWith("-N ")),
    };
  });
}

/**
 * Writes the text that brings back our rules as they were, each at its former place.
 *
 * @param saved the family's rules as they are
 * @param former the family's rules as they were
 * @param attempted the rules that were being installed: without comments they are known by this only
 * @returns the text, empty when there is nothing to do
 */
export function planRollback(
  saved: SavedTables,
  former: SavedTables,
  attempted?: FamilyRuleset,
): string {
  const ownBefore = findOwnRules(former, attempted);
  return writeTables(saved, attempted, (table) => {
    const chains = [...former.get(table)?.values() ?? []];
    return {
      chains: chains.filter(({ name }) => isOwnChain(name)).map(({ name }) => name),
      lines: chains.flatMap((chain) =>
        chain.rules.flatMap((rule, i) => {
          if (!ownBefore.get(table)?.get(chain.name)?.[i]) return [];
          // Going up, the foreign rules before this place are there already.
          return isOwnChain(chain.name)
            ? `-A ${chain.name} ${rewriteRule(chain.name, rule)}`
            : `-I ${checkChainName(chain.name)} ${i + 1} ${rewriteRule(chain.name, rule)}`;
        })
      ),
    };
  }, [...former.keys()]);
}

/** What a table shall hold of ours. */
interface TableTarget {
  /** Our chains. */
  readonly chains: readonly string[];
  /** Commands that fill them and the built-in chains. */
  readonly lines: readonly string[];
}

function writeTables(
  saved: SavedTables,
  wanted: FamilyRuleset | undefined,
  targetOf: (table: string) => TableTarget,
  more: readonly string[] = [],
): string {
  const own = findOwnRules(saved, wanted);
  const names = new Set([
    ...saved.keys(),
    ...wanted?.tables.map(({ name }) => name) ?? [],
    ...more,
  ]);
  const ordered = [
    ...TABLE_ORDER.filter((name) => names.has(name)),
    ...[...names].filter((name) => !TABLE_ORDER.includes(name)),
  ];
  return ordered.map((table) => {
    const target = targetOf(table);
    const existing = [...saved.get(table)?.keys() ?? []].filter(isOwnChain).map(checkChainName);
    const lines = [
      ...[...saved.get(table)?.values() ?? []]
        .filter(({ name }) => !isOwnChain(name))
        .flatMap((chain) =>
          // By its text, not by its number: another program may have changed the numbers meanwhile.
          chain.rules.filter((_, i) => own.get(table)?.get(chain.name)?.[i])
            .map((rule) => `-D ${checkChainName(chain.name)} ${rewriteRule(chain.name, rule)}`)
        ),
      ...existing.map((chain) => `-F ${chain}`),
      ...existing.filter((chain) => !target.chains.includes(chain)).map((chain) => `-X ${chain}`),
      ...target.chains.filter((chain) => !existing.includes(chain)).map((chain) => `-N ${chain}`),
      ...target.lines,
    ];
    return lines.length === 0
      ? ""
      : [`*${checkTableName(table)}`, ...lines, "COMMIT", ""].join("\n");
  }).join("");
}
