/**
 * Text for `iptables-restore --noflush` that turns the rules of a family into others, touching
 * nothing but ours: their deletion and the new rules stand in the same text, so that each table
 * changes in one step of the kernel.
 */
import type { FamilyRuleset } from "../../redirect/ruleset.ts";
import { restoreLines } from "../../redirect/iptables_text.ts";
import { isInPlace } from "./compare_rules.ts";
import { hasPredecessor, ownChainTest } from "./own_chains.ts";
import { commentsOf, findOwnRules } from "./own_rules.ts";
import { checkChainName, checkTableName, rewriteRule } from "./rewrite_rule.ts";
import type { SavedChain, SavedTables } from "./saved_rules.ts";

/**
 * Order of tables in the text. The kernel takes each table in one step, and whoever is killed between
 * two steps leaves rules behind that only the chains of `nat` show to be ours when they carry no
 * comments: so these chains come first and go last.
 */
const INSTALL_ORDER = ["nat", "raw", "mangle"];
const REMOVE_ORDER = ["mangle", "raw", "nat"];

/**
 * Writes the text that removes our rules and installs a ruleset in their place.
 *
 * @param saved the family's rules as they are
 * @param expected the rules to install; without it ours are only removed
 * @param comments whether rules carry their comments
 * @returns the text, empty when there is nothing to do
 */
export function planRestore(
  saved: SavedTables,
  expected: FamilyRuleset | undefined,
  comments: boolean,
): string {
  if (isInPlace(saved, expected, comments)) return "";
  return expected === undefined
    ? replaceOwn(saved, expected, () => NOTHING, undefined)
    : replaceOwn(saved, expected, (table) => targetOf(expected, table, comments), comments);
}

/**
 * Writes the text that puts rules in the place of ours.
 *
 * @param known rules without comments that are ours wherever they stand
 * @param comments whether the new rules carry comments; `undefined` when there are none
 * @param more tables beside those that have rules now
 */
function replaceOwn(
  saved: SavedTables,
  known: FamilyRuleset | undefined,
  targetOf: (table: string) => TableTarget,
  comments: boolean | undefined,
  more: readonly string[] = [],
): string {
  if (comments === undefined) return writeTables(saved, known, targetOf, REMOVE_ORDER, more);
  if (!mayMix(saved, comments)) return writeTables(saved, known, targetOf, INSTALL_ORDER, more);
  // Half with and half without comments, nobody could tell ours any more: first all of these go.
  return writeTables(saved, known, () => NOTHING, REMOVE_ORDER) +
    writeTables(withoutOwnRules(saved, known), known, targetOf, INSTALL_ORDER, more);
}

/** Whether a kill between two tables could leave rules with comments beside others without. */
function mayMix(saved: SavedTables, comments: boolean): boolean {
  return (hasPredecessor(saved) && comments) || commentsOf(saved) === !comments;
}

const NOTHING: TableTarget = { chains: [], lines: [] };

function targetOf(expected: FamilyRuleset, table: string, comments: boolean): TableTarget {
  const target = expected.tables.find(({ name }) => name === table);
  return target === undefined ? NOTHING : {
    chains: target.chains.filter(({ base }) => !base).map(({ name }) => name),
    lines: restoreLines(target, { comments }).filter((line) => !line.startsWith("-N ")),
  };
}

function withoutOwnRules(saved: SavedTables, known: FamilyRuleset | undefined): SavedTables {
  const own = findOwnRules(saved, known);
  const isOwn = ownChainTest(saved);
  return new Map(Array.from(saved, ([table, chains]) => {
    const others = [...chains.values()].filter(({ name }) => !isOwn(table, name));
    const rest = others.map(({ name, base, rules }): [string, SavedChain] => [name, {
      name,
      base,
      rules: rules.filter((_, i) => !own.get(table)?.get(name)?.[i]),
    }]);
    return [table, new Map(rest)];
  }));
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
  const isOwn = ownChainTest(former);
  const comments = commentsOf(former) ?? (hasPredecessor(former) ? false : undefined);
  return replaceOwn(
    saved,
    attempted,
    (table) => {
      const chains = [...former.get(table)?.values() ?? []];
      return {
        chains: chains.filter(({ name }) => isOwn(table, name)).map(({ name }) => name),
        lines: chains.flatMap((chain) =>
          chain.rules.flatMap((rule, i) => {
            if (!ownBefore.get(table)?.get(chain.name)?.[i]) return [];
            // Going up, the foreign rules before this place are there already.
            return isOwn(table, chain.name)
              ? `-A ${checkChainName(chain.name)} ${rewriteRule(chain.name, rule)}`
              : `-I ${checkChainName(chain.name)} ${i + 1} ${rewriteRule(chain.name, rule)}`;
          })
        ),
      };
    },
    comments,
    [...former.keys()],
  );
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
  expected: FamilyRuleset | undefined,
  targetOf: (table: string) => TableTarget,
  order: readonly string[],
  more: readonly string[] = [],
): string {
  const own = findOwnRules(saved, expected);
  const isOwn = ownChainTest(saved);
  const names = new Set([
    ...saved.keys(),
    ...expected?.tables.map(({ name }) => name) ?? [],
    ...more,
  ]);
  // Other tables hold nothing of ours unless somebody has put it there by hand.
  const ordered = [
    ...[...names].filter((name) => !order.includes(name)),
    ...order.filter((name) => names.has(name)),
  ];
  return ordered.map((table) => {
    const target = targetOf(table);
    const chains = [...saved.get(table)?.values() ?? []];
    const existing = chains.map(({ name }) => name).filter((name) => isOwn(table, name))
      .map(checkChainName);
    const lines = [
      ...chains.filter(({ name }) => !isOwn(table, name)).flatMap((chain) =>
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
