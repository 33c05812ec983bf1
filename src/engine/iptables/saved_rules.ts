/**
 * What `iptables-save` prints, parsed. Nothing here trusts the text to be complete: rules of others
 * are kept as they are, since they are only ever given back or left alone.
 */

/** A chain and its rules, each as its text without `-A CHAIN `. */
export interface SavedChain {
  readonly name: string;
  /** A built-in chain has a policy, ours have none. */
  readonly base: boolean;
  readonly rules: readonly string[];
  /** What each rule has counted, in packets; only where the text has counters. */
  readonly packets?: readonly number[];
}

/** The tables of one family by name, each with its chains by name. */
export type SavedTables = ReadonlyMap<string, ReadonlyMap<string, SavedChain>>;

interface ReadChain {
  name: string;
  base: boolean;
  rules: string[];
  packets?: number[];
}

/**
 * Parses the output of `iptables-save` or `ip6tables-save`, with or without counters.
 *
 * @param text what the tool printed
 * @returns the tables in the order of the text
 * @throws {SyntaxError} when a line is not of that form
 */
export function parseSavedRules(text: string): SavedTables {
  const tables = new Map<string, Map<string, ReadChain>>();
  let table: Map<string, ReadChain> | undefined;
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    if (line.startsWith("*")) {
      tables.set(line.slice(1).trim(), table = new Map());
    } else if (line.trim() === "COMMIT") {
      table = undefined;
    } else if (table !== undefined && line.startsWith(":")) {
      const [name = "", policy = "-"] = line.slice(1).split(" ");
      table.set(name, { name, base: policy !== "-", rules: [] });
    } else {
      const [, packets, name = "", rule] = /^(?:\[(\d+):\d+\] )?-A (\S+)(?: (.*))?$/.exec(line) ??
        [];
      const chain = table?.get(name);
      if (chain === undefined) {
        throw new SyntaxError(`Cannot understand a line of the saved rules: "${line}"`);
      }
      if (packets !== undefined) (chain.packets ??= [])[chain.rules.length] = Number(packets);
      chain.rules.push(rule ?? "");
    }
  }
  return tables;
}

/**
 * Splits a rule into words as `iptables-restore` does: blanks separate, double quotes keep
 * together, and a backslash inside of quotes takes the next character as it is.
 */
export function splitWords(rule: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quoted = false;
  for (let i = 0; i < rule.length; i++) {
    const character = rule.charAt(i);
    if (character === '"') {
      quoted = !quoted;
      word ??= "";
    } else if (quoted && character === "\\" && i + 1 < rule.length) {
      word = (word ?? "") + rule.charAt(++i);
    } else if (!quoted && (character === " " || character === "\t")) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? "") + character;
    }
  }
  if (word !== undefined) words.push(word);
  return words;
}

/** One condition or target of a rule, for example `! --dport 53`. */
export interface RuleOption {
  readonly negated: boolean;
  readonly name: string;
  readonly values: readonly string[];
}

/** Splits a rule into its options, in the order of the text. */
export function parseOptions(rule: string): RuleOption[] {
  const options: { negated: boolean; name: string; values: string[] }[] = [];
  let negated = false;
  for (const word of splitWords(rule)) {
    const last = options.at(-1);
    // The value of these two is free text, which may look like an option.
    const wantsText = (last?.name === "--comment" || last?.name === "--log-prefix") &&
      last.values.length === 0;
    if (wantsText || (last !== undefined && word !== "!" && !word.startsWith("-"))) {
      last?.values.push(word);
    } else if (word === "!") {
      negated = true;
    } else {
      options.push({ negated, name: word, values: [] });
      negated = false;
    }
  }
  return options;
}

/** The first value of an option, `undefined` when the rule does not have the option. */
export function optionValue(options: readonly RuleOption[], name: string): string | undefined {
  return options.find((option) => option.name === name)?.values[0];
}

/** Names of a rule's conditions, sorted; neither match names nor the target and its options. */
export function conditionNames(options: readonly RuleOption[]): string {
  const target = options.findIndex(({ name }) => name === "-j" || name === "-g");
  return (target < 0 ? options : options.slice(0, target))
    .map(({ name }) => name)
    .filter((name) => name !== "-m" && name !== "--comment")
    .sort()
    .join(" ");
}
