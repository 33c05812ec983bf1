/**
 * Rules in the syntax of `iptables-save`: the form in which the saving tool of iptables 1.8 prints
 * them, byte for byte, so that what was read back can be compared as text.
 */
import type { Range } from "./config.ts";
import type { Cidr } from "../ip/cidr.ts";
import type { IpFamily } from "../ip/address.ts";
import {
  COMMENT_PREFIX,
  type FamilyRuleset,
  type Match,
  type Rule,
  type Table,
  type TableName,
  type Verdict,
} from "./ruleset.ts";

/** Options of the text form. */
export interface IptablesTextOptions {
  /** Write each rule's comment; default `false`. */
  readonly comments?: boolean;
}

/** Longest comment that the `comment` match holds, without the closing NUL (`xt_comment.h`). */
const MAX_COMMENT = 254;

/** Order in which the reference implementation writes tables. */
const TABLE_ORDER: readonly TableName[] = ["raw", "nat", "mangle"];

/**
 * Writes one rule's matches and target, without `-A CHAIN`.
 *
 * @param rule The rule.
 * @param options Whether the comment is written.
 * @returns For example `-p tcp -m tcp --dport 53 -j RETURN`.
 */
export function ruleText(rule: Rule, options: IptablesTextOptions = {}): string {
  const protocol =
    rule.matches.flatMap((match) => match.kind === "protocol" ? [match.protocol] : [])[0];
  const words = [
    ...rule.matches.flatMap((match) => match.kind === "source-address" ? address("-s", match) : []),
    ...rule.matches.flatMap((match) =>
      match.kind === "destination-address" ? address("-d", match) : []
    ),
    ...rule.matches.flatMap((match) =>
      match.kind === "input-interface" ? networkInterface("-i", match.name) : []
    ),
    ...rule.matches.flatMap((match) =>
      match.kind === "output-interface" ? networkInterface("-o", match.name) : []
    ),
    ...(protocol === undefined ? [] : ["-p", protocol]),
  ];
  if (options.comments) {
    words.push(
      "-m",
      "comment",
      "--comment",
      quote((COMMENT_PREFIX + rule.comment).slice(0, MAX_COMMENT)),
    );
  }
  for (const match of rule.matches) words.push(...extension(match, protocol));
  words.push("-j", ...target(rule.verdict));
  return words.join(" ");
}

function address(
  option: string,
  match: { readonly cidr: Cidr; readonly negated: boolean },
): string[] {
  // The tool does not save a condition that every packet meets.
  if (match.cidr.prefix === 0 && !match.negated) return [];
  return [
    ...(match.negated ? ["!"] : []),
    option,
    `${match.cidr.address}/${match.cidr.prefix}`,
  ];
}

function networkInterface(option: string, name: string): string[] {
  return name === "+" ? [] : [option, word(name)];
}

function extension(match: Match, protocol: string | undefined): string[] {
  switch (match.kind) {
    case "protocol":
    case "source-address":
    case "destination-address":
    case "input-interface":
    case "output-interface":
      return [];
    case "source-port":
    case "destination-port": {
      const side = match.kind === "source-port" ? "s" : "d";
      const not = match.negated ? ["!"] : [];
      const ports = match.ports.map((range) => rangeText(range, ":")).join(",");
      return match.multiport
        ? ["-m", "multiport", ...not, `--${side}ports`, ports]
        : ["-m", protocol ?? "tcp", ...not, `--${side}port`, ports];
    }
    case "owner":
      return [
        "-m",
        "owner",
        ...(match.negated ? ["!"] : []),
        "--uid-owner",
        rangeText(match.uids, "-"),
      ];
    case "conntrack-state":
      return ["-m", "conntrack", "--ctstate", match.state.toUpperCase()];
  }
}

function rangeText(range: Range, separator: string): string {
  return range.from === range.to ? `${range.from}` : `${range.from}${separator}${range.to}`;
}

function target(verdict: Verdict): string[] {
  switch (verdict.kind) {
    case "return":
      return ["RETURN"];
    case "drop":
      return ["DROP"];
    case "jump":
      return [verdict.chain];
    case "redirect":
      return ["REDIRECT", "--to-ports", `${verdict.port}`];
    case "conntrack-zone":
      return ["CT", "--zone", `${verdict.zone}`];
    case "log":
      return ["LOG", "--log-prefix", quote(verdict.prefix), "--log-level", `${verdict.level}`];
  }
}

/** A word as it is when it is harmless, else in quotes. */
function word(text: string): string {
  return /^[A-Za-z0-9_.:@+-]+$/.test(text) ? text : quote(text);
}

/** Quotes a text for a restore file; a character that would end the line cannot be written. */
function quote(text: string): string {
  // deno-lint-ignore no-control-regex -- exactly the characters that could start another line
  if (/[\u0000-\u001f\u007f]/.test(text)) {
    throw new TypeError(`A control character cannot be written to a rule: ${JSON.stringify(text)}`);
  }
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/**
 * Writes a rule as a line of `iptables-save`.
 *
 * @returns For example `-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND`.
 */
export function appendLine(chain: string, rule: Rule, options: IptablesTextOptions = {}): string {
  return `-A ${chain} ${ruleText(rule, options)}`;
}

/** The tables of a family in the order in which the reference implementation writes them. */
function tablesInTextOrder(ruleset: FamilyRuleset): readonly Table[] {
  return TABLE_ORDER.flatMap((name) => ruleset.tables.filter((table) => table.name === name));
}

/**
 * Writes what `iptables-save` prints after the rules went into an empty namespace, without the
 * built-in chains that have no rule of ours.
 *
 * @param ruleset The rules of one family.
 * @returns Text with a final line end.
 */
export function saveText(ruleset: FamilyRuleset, options: IptablesTextOptions = {}): string {
  const lines: string[] = [];
  for (const table of tablesInTextOrder(ruleset)) {
    lines.push(`*${table.name}`);
    for (const chain of table.chains) {
      lines.push(`:${chain.name} ${chain.base ? "ACCEPT" : "-"} [0:0]`);
    }
    for (const chain of table.chains) {
      for (const rule of chain.rules) lines.push(appendLine(chain.name, rule, options));
    }
    lines.push("COMMIT");
  }
  return lines.join("\n") + "\n";
}

/**
 * Writes the lines of one table for `iptables-restore --noflush`, without `*table` and `COMMIT`:
 * our chains are created, rules with placement `insert` go to positions 1, 2, 3 … of their chain,
 * the others to its end.
 *
 * @param table A table of a compiled ruleset.
 */
export function restoreLines(table: Table, options: IptablesTextOptions = {}): string[] {
  const lines = table.chains.filter((chain) => !chain.base).map((chain) => `-N ${chain.name}`);
  for (const chain of table.chains) {
    let position = 1;
    for (const rule of chain.rules) {
      lines.push(
        chain.base && rule.placement === "insert"
          ? `-I ${chain.name} ${position++} ${ruleText(rule, options)}`
          : appendLine(chain.name, rule, options),
      );
    }
  }
  return lines;
}

/**
 * Writes the text for `iptables-restore --noflush` into a namespace that has none of our chains.
 *
 * @param ruleset The rules of one family.
 * @returns Text with a final line end.
 */
export function restoreText(ruleset: FamilyRuleset, options: IptablesTextOptions = {}): string {
  return tablesInTextOrder(ruleset)
    .flatMap((table) => [`*${table.name}`, ...restoreLines(table, options), "COMMIT"])
    .join("\n") + "\n";
}

/** The name of a family's tool: `iptables` or `ip6tables`. */
export function toolFamily(family: IpFamily): "iptables" | "ip6tables" {
  return family === "ipv4" ? "iptables" : "ip6tables";
}
