/**
 * What the evaluator says of a packet in a namespace with rules of others. Each engine has its own
 * order: iptables' rules stand among the others' in one chain, nf_tables' in a chain before or after.
 */
import { type Layout, planTables } from "../../src/engine/nftables/plan.ts";
import type { EngineName } from "../../src/engine/engine.ts";
import { evaluate, type Evaluation, type Packet } from "../../src/redirect/evaluate.ts";
import { leave } from "../../src/redirect/matches.ts";
import { nftChainName } from "../../src/redirect/nft_layout.ts";
import type { Chain, Ruleset, Table } from "../../src/redirect/ruleset.ts";

/** Priority of the nat chains of iptables; `linux/netfilter_ipv4.h`. */
const IPTABLES_NAT_PRIORITY = -100;

/**
 * Evaluates a packet against our rules and others' nat rules.
 *
 * @param foreign nat table of the packet's family
 * @param layout of the nftables engine
 */
export function predict(
  ruleset: Ruleset,
  foreign: Table | undefined,
  engine: EngineName,
  packet: Packet,
  layout: Layout = "inet",
): Evaluation {
  if (foreign === undefined) return evaluate(ruleset, packet);
  if (engine === "iptables") return evaluate(merged(ruleset, foreign, packet), packet);
  const ours = evaluate(withoutJumpsOut(ruleset), packet);
  const theirs = evaluate({
    ...ruleset,
    families: [{ family: packet.family, tables: [foreign] }],
  }, packet);
  if (ours.verdict.kind === "drop") return ours;
  const [first, second] = ourNatIsFirst(ruleset, layout, packet) ? [ours, theirs] : [theirs, ours];
  const { verdict } = first.verdict.kind === "redirect" ? first : second;
  return { ...ours, verdict };
}

function merged(ruleset: Ruleset, foreign: Table, packet: Packet): Ruleset {
  const present = ruleset.families.some(({ family }) => family === packet.family);
  const families = present ? ruleset.families : [{ family: packet.family, tables: [] }];
  return {
    ...ruleset,
    families: families.filter(({ family }) => family === packet.family).map((rules) => ({
      family: rules.family,
      tables: rules.tables.some(({ name }) => name === "nat")
        ? rules.tables.map((table) => table.name === "nat" ? mergedTable(table, foreign) : table)
        : [...rules.tables, foreign],
    })),
  };
}

function mergedTable(ours: Table, foreign: Table): Table {
  const chains = ours.chains.map((chain): Chain => {
    const theirs = foreign.chains.find(({ base, name }) => base && name === chain.name);
    if (!chain.base || theirs === undefined) return chain;
    const placed = (placement: string) =>
      chain.rules.filter((rule) => rule.placement === placement);
    return { ...chain, rules: [...placed("insert"), ...theirs.rules, ...placed("append")] };
  });
  return { ...ours, chains: [...chains, ...foreign.chains.filter(({ base }) => !base)] };
}

/** A jump to another table's chain ends our chain, see `docs/differences.md`. */
function withoutJumpsOut(ruleset: Ruleset): Ruleset {
  const inTable = ({ chains }: Table, rule: Chain["rules"][number]) =>
    rule.verdict.kind === "jump" &&
      !chains.some(({ name }) => name === (rule.verdict as { chain: string }).chain)
      ? { ...rule, verdict: leave }
      : rule;
  return {
    ...ruleset,
    families: ruleset.families.map((rules) => ({
      ...rules,
      tables: rules.tables.map((table) => ({
        ...table,
        chains: table.chains.map((chain) => ({
          ...chain,
          rules: chain.rules.map((rule) => inTable(table, rule)),
        })),
      })),
    })),
  };
}

function ourNatIsFirst(
  ruleset: Ruleset,
  layout: Layout,
  { family, direction }: Packet,
): boolean {
  const tables = planTables(ruleset, layout);
  const own = family === "ipv4" ? "ip" : "ip6";
  const name = nftChainName("nat", {
    name: direction === "outbound" ? "OUTPUT" : "PREROUTING",
    base: true,
    rules: [],
  });
  const chain = tables.find((table) => ["inet", own].includes(table.family))?.chains
    .find((chain) => chain.name === name);
  return (chain?.hook?.priority ?? 0) < IPTABLES_NAT_PRIORITY;
}
