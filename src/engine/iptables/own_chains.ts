/**
 * Which chains are ours: those with our prefix, which is the reference implementation's too, and the
 * four chains that Kuma 2.7 made under names of its own. The latter are names that others may use as
 * well, so they count only with exactly the content that Kuma gave them.
 */
import { CHAIN_PREFIX } from "../../redirect/ruleset.ts";
import {
  conditionNames,
  optionValue,
  parseOptions,
  type RuleOption,
  type SavedChain,
  type SavedTables,
} from "./saved_rules.ts";

/** Tells whether a chain is ours, by its table and name. */
export type OwnChainTest = (table: string, chain: string) => boolean;

const INBOUND = "MESH_INBOUND";
const OUTBOUND = "MESH_OUTBOUND";
const INBOUND_REDIRECT = "MESH_INBOUND_REDIRECT";
const OUTBOUND_REDIRECT = "MESH_OUTBOUND_REDIRECT";

/** Names of the chains of Kuma 2.7, all in the table `nat`. */
export const PREDECESSOR_CHAINS: readonly string[] = [
  INBOUND,
  OUTBOUND,
  INBOUND_REDIRECT,
  OUTBOUND_REDIRECT,
];

/** Whether a chain's name has our prefix. */
export function isOwnName(name: string): boolean {
  return name === CHAIN_PREFIX || name.startsWith(`${CHAIN_PREFIX}_`);
}

/** Says for the rules of a family which of its chains are ours. */
export function ownChainTest(saved: SavedTables): OwnChainTest {
  const predecessor = hasPredecessor(saved);
  return (table, chain) =>
    isOwnName(chain) || (predecessor && table === "nat" && PREDECESSOR_CHAINS.includes(chain));
}

/**
 * Whether the chains of Kuma 2.7 are there, as that version fills them: all four, without a rule that
 * it does not make, and nobody else jumps into them.
 */
export function hasPredecessor(saved: SavedTables): boolean {
  const nat = saved.get("nat");
  if (nat === undefined) return false;
  const chain = (name: string): readonly string[] | undefined => nat.get(name)?.rules;
  const [inbound, outbound] = [chain(INBOUND), chain(OUTBOUND)];
  const redirects = [chain(INBOUND_REDIRECT), chain(OUTBOUND_REDIRECT)];
  return inbound !== undefined && outbound !== undefined && inbound.length > 0 &&
    outbound.length > 0 && inbound.every(isInboundRule) && outbound.every(isOutboundRule) &&
    redirects.every((rules) => rules?.length === 1 && rules.every(isListenerRule)) &&
    [...nat.values()].every(leadsAsPredecessor);
}

/** What a rule does when it meets a packet, and the names of its conditions, negated ones with `!`. */
interface Shape {
  readonly target: string;
  readonly names: string;
  readonly options: readonly RuleOption[];
}

function shapeOf(rule: string): Shape {
  const options = parseOptions(rule);
  const negated = options.map((option) =>
    option.negated ? { ...option, name: `!${option.name}` } : option
  );
  return { target: optionValue(options, "-j") ?? "", names: conditionNames(negated), options };
}

/** I1 to I5 of `docs/rules.md`. */
function isInboundRule(rule: string): boolean {
  const { target, names, options } = shapeOf(rule);
  if (names === "-s") return target === "RETURN";
  return optionValue(options, "-p") === "tcp" && (names === "-p" || names === "--dport -p") &&
    (target === "RETURN" || target === INBOUND_REDIRECT);
}

/** M1 to M10. */
function isOutboundRule(rule: string): boolean {
  const { target, names, options } = shapeOf(rule);
  const value = (name: string) => optionValue(options, name);
  if ((value("-p") ?? "tcp") !== "tcp") return false;
  switch (target) {
    case "RETURN":
      if (names === "-o -s") return PASSTHROUGH.includes(value("-s") ?? "");
      return [
        "-p",
        "--dport -p",
        "!--uid-owner -o -p",
        "!--dport !--uid-owner -o -p",
        "--uid-owner",
        "-d",
      ].includes(names);
    case INBOUND_REDIRECT:
      return names === "!-d --uid-owner -o -p" || names === "!--dport !-d --uid-owner -o -p";
    case "REDIRECT":
      return names === "--dport -p" || names === "--dport -d -p";
    case OUTBOUND_REDIRECT:
      return names === "" || names === "--dport -p";
    default:
      return false;
  }
}

const PASSTHROUGH = ["127.0.0.6/32", "::6/128"];

/** D1 and D2. */
function isListenerRule(rule: string): boolean {
  const { target, names, options } = shapeOf(rule);
  return target === "REDIRECT" && names === "-p" && optionValue(options, "-p") === "tcp";
}

/** P2 or P5, and O7: from other chains there is no other way into these. */
function leadsAsPredecessor({ name, base, rules }: SavedChain): boolean {
  if (PREDECESSOR_CHAINS.includes(name)) return true;
  return rules.every((rule) => {
    const options = parseOptions(rule);
    const target = optionValue(options, "-j") ?? optionValue(options, "-g") ?? "";
    if (!PREDECESSOR_CHAINS.includes(target)) return true;
    return base && conditionNames(options) === "-p" && optionValue(options, "-p") === "tcp" &&
      target === (name === "PREROUTING" ? INBOUND : name === "OUTPUT" ? OUTBOUND : "");
  });
}
