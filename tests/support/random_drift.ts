/** Changes of a pod's rules such as other software, or a person, makes: at random, from a seed. */
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import type { Chain, FamilyRuleset, Rule, Ruleset, Table } from "../../src/redirect/ruleset.ts";

/** Random numbers from a seed (mulberry32), so that a failure can be played again. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Changes the rules in the network namespace that the calling thread is in.
 *
 * @param ruleset What is installed there.
 * @returns What was done, in words.
 */
export function drift(ruleset: Ruleset, random: () => number): string {
  const engine = new NftablesEngine();
  if (random() < 0.1) {
    engine.remove();
    return "all rules are gone";
  }
  let words = "";
  let changed = ruleset;
  for (let times = 1 + Math.floor(random() * 3); times > 0; times--) {
    const [next, what] = changeOnce(changed, random);
    changed = next;
    words += `${words === "" ? "" : ", "}${what}`;
  }
  engine.apply({ ...changed, ipv6PassthroughAddress: false });
  return words;
}

function changeOnce(ruleset: Ruleset, random: () => number): [Ruleset, string] {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const family = pick(ruleset.families);
  const table = pick(family.tables);
  const chain = pick(table.chains.filter(({ rules }) => rules.length > 0));
  const at = Math.floor(random() * chain.rules.length);
  const rule = chain.rules[at]!;
  const place = `${family.family} ${table.name} ${chain.name} ${rule.id}`;
  const replaced = (rules: readonly Rule[]): Ruleset =>
    withTable(ruleset, family, {
      ...table,
      chains: table.chains.map((one): Chain => one === chain ? { ...one, rules } : one),
    });
  switch (Math.floor(random() * 4)) {
    case 0:
      return [replaced(chain.rules.toSpliced(at, 1)), `without ${place}`];
    case 1:
      return [replaced(chain.rules.toSpliced(at, 0, rule)), `twice ${place}`];
    case 2: {
      const port = 1 + Math.floor(random() * 65535);
      const verdict = random() < 0.5 && rule.verdict.kind === "redirect"
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
