/**
 * Changes of a pod's rules such as other software, or a person with the real tools, makes: at random,
 * from a seed, each one a change of what is in force. They work on the network namespace that the
 * calling thread is in.
 */
import { PASSTHROUGH_ADDRESS } from "../../src/engine/passthrough_address.ts";
import { addAddress, getLink, removeAddress } from "../../src/linux/addresses.ts";
import type { Dice } from "./damage.ts";
import { saved, type TestBackend, tool, toolName } from "./iptables.ts";

interface ListedChain {
  /** Family and name. */
  readonly table: string;
  readonly name: string;
  /** Type, hook, priority and policy of a base chain. */
  readonly base: string | undefined;
  readonly rules: readonly { readonly text: string; readonly handle: string }[];
}

/** Reads what `nft -a list ruleset` prints of our tables. */
function chainsIn(listing: string): ListedChain[] {
  const chains: ListedChain[] = [];
  let table = "";
  for (const line of listing.split("\n").map((line) => line.trim())) {
    const begun = /^(table|chain) (.+) \{ # handle \d+$/.exec(line);
    if (begun?.[1] === "table") table = begun[2]!;
    else if (begun !== null) chains.push({ table, name: begun[2]!, base: undefined, rules: [] });
    else if (line.startsWith("type ")) chains.push({ ...chains.pop()!, base: line });
    else {
      const rule = /^(.+) # handle (\d+)$/.exec(line);
      if (rule === null) continue;
      const chain = chains.pop()!;
      const [, text = "", handle = ""] = rule;
      chains.push({ ...chain, rules: [...chain.rules, { text, handle }] });
    }
  }
  return chains.filter(({ table }) => table.endsWith(" kuma_mesh"));
}

/** Removes the address `::6`, or leaves it with another interface's, where it has no use. */
function withoutAddress(): string {
  removeAddress(getLink("lo").index, PASSTHROUGH_ADDRESS, 128);
  return `${PASSTHROUGH_ADDRESS} is gone`;
}

/** Makes one change of the tables of the engine nftables. */
export function driftNftables(dice: Dice): string {
  if (dice.once(20)) return withoutAddress();
  const chains = chainsIn(tool("nft", ["-a", "list", "ruleset"]));
  const chain = dice.pick(chains.filter(({ rules }) => rules.length > 0));
  const { table, name, rules } = chain;
  const at = dice.below(rules.length);
  const rule = rules[at]!;
  const place = `${table} ${name}`;
  const port = 1 + dice.below(65_535);
  const run = (what: string, ...script: string[]): string => {
    tool("nft", ["-f", "-"], script.join("\n") + "\n");
    return `${what}: ${script.join("; ")}`;
  };
  const base = dice.pick(chains.filter((one) => one.base !== undefined));
  switch (dice.below(14)) {
    case 0:
    case 1:
      return run("a rule is deleted", `delete rule ${place} handle ${rule.handle}`);
    case 2:
      return run(
        "a rule is another",
        `replace rule ${place} handle ${rule.handle} tcp dport ${port} drop`,
      );
    case 3:
      return run(
        "a rule has another set",
        `replace rule ${place} handle ${rule.handle} tcp dport { ${port}, 65535 } counter accept`,
      );
    case 4:
      return run("a stranger comes first", `insert rule ${place} meta l4proto udp return`);
    case 5:
      return run(
        "a stranger stands among ours",
        `add rule ${place} position ${rule.handle} ip daddr 10.${port % 256}.0.0/16 accept`,
      );
    case 6: {
      const next = rules.findIndex(({ text }, i) => i > at && text !== rule.text);
      if (next < 0) return run("a rule stands twice", `add rule ${place} ${rule.text}`);
      return run(
        "a rule stands behind others",
        `delete rule ${place} handle ${rule.handle}`,
        `add rule ${place} position ${rules[next]!.handle} ${rule.text}`,
      );
    }
    case 7:
      return run("the table is gone", `delete table ${table}`);
    case 8:
      return run("a chain is empty", `flush chain ${place}`);
    case 9:
      return run("the table is empty", `flush table ${table}`);
    case 10:
      return run(
        "a chain is gone",
        `flush chain ${base.table} ${base.name}`,
        `delete chain ${base.table} ${base.name}`,
      );
    case 11:
      return run("there is a chain more", `add chain ${table} STRANGER_${port}`);
    case 12:
      return dice.once(2) ? run("the table sleeps", `add table ${table} { flags dormant; }`) : run(
        "a chain drops what no rule takes",
        `add chain ${base.table} ${base.name} { policy drop; }`,
      );
    default:
      return run("a chain has another name", `rename chain ${place} OTHER_${port}`);
  }
}

/** Makes one change of the chains of the engine iptables. */
export function driftIptables(backend: TestBackend, dice: Dice): string {
  if (dice.once(20)) return withoutAddress();
  const family = dice.pick(["ipv4", "ipv6"] as const);
  const lines = saved(family, backend).split("\n");
  const tables = new Map<string, string[]>();
  for (const line of lines) {
    if (line.startsWith("*")) tables.set(line.slice(1), []);
    else if (line.startsWith("-A ")) [...tables.values()].at(-1)!.push(line);
  }
  const table = dice.pick([...tables.keys()].filter((name) => tables.get(name)!.length > 0));
  const rules = tables.get(table)!.map((line) => {
    const [, chain = "", text = ""] = /^-A (\S+) ?(.*)$/.exec(line)!;
    return { chain, text };
  });
  const { chain, text } = dice.pick(rules);
  const own = rules.filter((rule) => rule.chain === chain);
  const number = 1 + own.findIndex((rule) => rule.text === text);
  const isOurs = chain.startsWith("KUMA_");
  const port = 1 + dice.below(65_535);
  const run = (what: string, ...commands: string[]): string => {
    for (const command of commands) {
      const args = command.match(/"[^"]*"|\S+/g)!.map((word) => word.replaceAll('"', ""));
      tool(toolName(family, backend), ["-w", "-t", table, ...args]);
    }
    return `${what}: ${family} ${table} ${commands.join("; ")}`;
  };
  // In chains of the kernel a stranger's rule is a stranger's business.
  switch (dice.below(isOurs ? 8 : 4)) {
    case 0:
    case 1:
      return run("a rule is deleted", `-D ${chain} ${number}`);
    case 2:
      return run("a rule stands twice", `-A ${chain} ${text}`);
    case 3:
      return run("a chain is empty", `-F ${chain}`);
    case 4:
      return run("a rule is another", `-R ${chain} ${number} -p tcp --dport ${port} -j RETURN`);
    case 5:
      return run("a stranger comes first", `-I ${chain} 1 -p udp -j RETURN`);
    case 6:
      return run("the table is empty", "-F");
    default: {
      const other = own.find((rule) => rule.text !== text);
      return other === undefined
        ? run("a stranger comes last", `-A ${chain} -p tcp --dport ${port} -j RETURN`)
        : run(
          "a rule stands behind others",
          `-D ${chain} ${number}`,
          number === own.length ? `-I ${chain} 1 ${text}` : `-A ${chain} ${text}`,
        );
    }
  }
}

/** What somebody else may do in a pod's namespace without a drift, with what takes it back. */
export function doHarmless(dice: Dice): { readonly what: string; undo(): void } {
  const name = `stranger_${dice.below(1000)}`;
  const script = (text: string) => tool("nft", ["-f", "-"], `${text}\n`);
  switch (dice.below(3)) {
    case 0: {
      const chain = "chain input {\n type filter hook input priority 10;\n counter\n }";
      script(`table inet ${name} {\n ${chain}\n}`);
      return { what: `table ${name}`, undo: () => void script(`delete table inet ${name}`) };
    }
    case 1: {
      script(`table ip6 ${name} {\n set ports {\n type inet_service;\n elements = { 80 }\n }\n}`);
      return { what: `set in ${name}`, undo: () => void script(`delete table ip6 ${name}`) };
    }
    default: {
      const address = `10.66.0.${1 + dice.below(250)}`;
      const { index } = getLink("lo");
      addAddress(index, address, 32);
      return { what: address, undo: () => removeAddress(index, address, 32) };
    }
  }
}
