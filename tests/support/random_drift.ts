/** Changes of a pod's rules such as other software, or a person, makes: at random, from a seed. */
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import type { Chain, FamilyRuleset, Rule, Ruleset, Table } from "../../src/redirect/ruleset.ts";
import type { Dice } from "./damage.ts";

/**
 * Changes the rules in the network namespace that the calling thread is in.
 *
 * @param ruleset What is installed there.
 * @returns What was done, in words.
 */
export function drift(ruleset: Ruleset, dice: Dice): string {
  const engine = new NftablesEngine();
  if (dice.once(10)) {
    engine.remove();
    return "all rules are gone";
  }
  let words = "";
  let changed = ruleset;
  for (let times = 1 + dice.below(3); times > 0; times--) {
    const [next, what] = changeOnce(changed, dice);
    changed = next;
    words += `${words === "" ? "" : ", "}${what}`;
  }
  engine.apply({ ...changed, ipv6PassthroughAddress: false });
  return words;
}

function changeOnce(ruleset: Ruleset, dice: Dice): [Ruleset, string] {
  const family = dice.pick(ruleset.families);
  const table = dice.pick(family.tables);
  const chain = dice.pick(table.chains.filter(({ rules }) => rules.length > 0));
  const at = dice.below(chain.rules.length);
  const rule = chain.rules[at]!;
  const place = `${family.family} ${table.name} ${chain.name} ${rule.id}`;
  const replaced = (rules: readonly Rule[]): Ruleset =>
    withTable(ruleset, family, {
      ...table,
      chains: table.chains.map((one): Chain => one === chain ? { ...one, rules } : one),
    });
  switch (dice.below(4)) {
    case 0:
      return [replaced(chain.rules.toSpliced(at, 1)), `without ${place}`];
    case 1:
      return [replaced(chain.rules.toSpliced(at, 0, rule)), `twice ${place}`];
    case 2: {
      const port = 1 + dice.below(65535);
      const verdict = dice.once(2) && rule.verdict.kind === "redirect"
        ? { kind: "redirect", port } as const
        : { kind: "drop" } as const;
      return [replaced(chain.rules.with(at, { ...rule, verdict })), `${place} does other things`];
    }
    default: {
      const stranger: Rule = {
        ...rule,
        id: "X",
        matches: [{ kind: "protocol", protocol: "udp" }],
        verdict: { kind: "return" },
      };
      return [replaced(chain.rules.toSpliced(at, 0, stranger)), `a stranger before ${place}`];
    }
  }
}

function withTable(ruleset: Ruleset, family: FamilyRuleset, table: Table): Ruleset {
  return {
    ...ruleset,
    families: ruleset.families.map((one) =>
      one === family
        ? { ...one, tables: one.tables.map((each) => each.name === table.name ? table : each) }
        : one
    ),
  };
}
