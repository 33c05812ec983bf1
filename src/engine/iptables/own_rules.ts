/**
 * Which rules of a namespace are ours, or of the reference implementation, and which belong to
 * somebody else. The mark is the comment's prefix; without comments it is the chains' names and,
 * for rules in built-in chains, their form.
 */
import { COMMENT_PREFIX, type FamilyRuleset } from "../../redirect/ruleset.ts";
import { ruleText } from "../../redirect/iptables_text.ts";
import { canonicalRule } from "./canonical_rule.ts";
import { hasPredecessor, isOwnName, type OwnChainTest, ownChainTest } from "./own_chains.ts";
import {
  conditionNames,
  optionValue,
  parseOptions,
  type RuleOption,
  type SavedChain,
  type SavedTables,
} from "./saved_rules.ts";

/**
 * Answers for each rule of a family whether it is ours.
 *
 * @param saved the family's rules as they are
 * @param expected rules that are going to be there: an equal one without a comment is ours, too
 * @param head whether exclusions without comments at the head of OUTPUT count as ours: to clean up
 * they do, since a stale one would let traffic out of the mesh; in a comparison they do not
 * @returns tables → chains → one flag per rule, in the order of the rules
 */
export function findOwnRules(
  saved: SavedTables,
  expected?: FamilyRuleset,
  head = true,
): Map<string, Map<string, boolean[]>> {
  const isOwn = ownChainTest(saved);
  const anonymous = hasRulesWithoutComments(saved);
  return new Map(Array.from(saved, ([table, chains]) => {
    const flags = Array.from(chains.values(), (chain): [string, boolean[]] => {
      const own = chain.rules.map((rule) =>
        isOwn(table, chain.name) || isMarked(isOwn, table, rule)
      );
      if (anonymous) flagAnonymous(table, chain, own, expected, head);
      return [chain.name, own];
    });
    return [table, new Map(flags)];
  }));
}

/** Whether a rule carries our comment, or sends packets to one of our chains. */
function isMarked(isOwn: OwnChainTest, table: string, rule: string): boolean {
  // Most rules of others are known by this, without being taken apart.
  if (!rule.includes(COMMENT_PREFIX) && !rule.includes("MESH")) return false;
  const options = parseOptions(rule);
  const target = optionValue(options, "-j") ?? optionValue(options, "-g") ?? "";
  return isOwn(table, target) ||
    (optionValue(options, "--comment")?.startsWith(COMMENT_PREFIX) ?? false);
}

/** Whether rules of ours without comments are there: whole sets have them, or have them not. */
function hasRulesWithoutComments(saved: SavedTables): boolean {
  return hasPredecessor(saved) || commentsOf(saved) === false;
}

/** Whether the rules of our own chains' set carry comments; `undefined` without such chains. */
export function commentsOf(saved: SavedTables): boolean | undefined {
  const chains = [...saved.values()].flatMap((table) => [...table.values()]);
  if (!chains.some(({ name }) => isOwnName(name))) return undefined;
  return chains.some((chain) => chain.rules.some((rule) => rule.includes(COMMENT_PREFIX)));
}

function flagAnonymous(
  table: string,
  chain: SavedChain,
  own: boolean[],
  expected: FamilyRuleset | undefined,
  withHead: boolean,
): void {
  const expectedRules = expected?.tables.find(({ name }) => name === table)?.chains
    .find(({ name }) => name === chain.name)?.rules ?? [];
  const equal = new Set(expectedRules.map((rule) => canonicalRule(ruleText(rule))));
  // Exclusions look like anybody's rules, but ours stand at the head of OUTPUT, before those for DNS.
  let head = withHead && table === "nat" && chain.name === "OUTPUT";
  chain.rules.forEach((rule, i) => {
    const options = parseOptions(rule);
    head &&= isExclusion(options) || optionValue(options, "-j") === "LOG";
    own[i] ||= (head && isExclusion(options)) || hasOwnForm(table, chain.name, options) ||
      equal.has(canonicalRule(rule));
  });
}

/**
 * `-d ADDRESS -j RETURN`, or `-m multiport --dports … -m owner --uid-owner … -j RETURN`. An address
 * that stands for all, `0.0.0.0/0`, is not saved.
 */
function isExclusion(options: readonly RuleOption[]): boolean {
  if (optionValue(options, "-j") !== "RETURN") return false;
  const names = conditionNames(options);
  return names === "" || names === "-d" || names === "--dports --uid-owner -p";
}

/** Forms that nothing else in a pod has; names are those of the rule table in `docs/rules.md`. */
function hasOwnForm(table: string, chain: string, options: readonly RuleOption[]): boolean {
  const names = conditionNames(options);
  const value = (name: string) => optionValue(options, name);
  const target = value("-j");
  const toDns = value("--dport") === "53";
  if (table === "raw" && target === "CT") {
    const zone = value("--zone");
    if (value("-p") !== "udp" || (zone !== "1" && zone !== "2")) return false;
    return chain === "PREROUTING"
      ? value("--sport") === "53" // R1
      : toDns || names === "--sport --uid-owner -p" || names === "-d -p -s"; // R2, R4; R3; R5
  }
  if (table === "mangle") { // X1
    return chain === "PREROUTING" && target === "DROP" && value("--ctstate") === "INVALID" &&
      names === "--ctstate";
  }
  if (table !== "nat") return false;
  if (target === "LOG") return names === "" && value("--log-prefix") === `${chain}:`; // P1, O1
  if (chain === "PREROUTING" && target === "REDIRECT") { // P3, P4
    return (names === "--dport -i -p" && toDns) || (names === "-d -i -p" && value("-p") === "tcp");
  }
  if (chain !== "OUTPUT" || !toDns) return false;
  return names === "--dport --uid-owner -p" // O4, O6
    ? target === "RETURN" || target === "DOCKER_OUTPUT"
    : target === "REDIRECT" && (names === "--dport -p" || names === "--dport -d -p"); // O5
}

/** Whether anything of ours is among the rules of a family. */
export function hasOwnRules(saved: SavedTables): boolean {
  const isOwn = ownChainTest(saved);
  return Array.from(saved).some(([table, chains]) =>
    [...chains.values()].some((chain) =>
      isOwn(table, chain.name) || chain.rules.some((rule) => isMarked(isOwn, table, rule))
    )
  );
}
