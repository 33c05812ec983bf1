/**
 * Tables of nf_tables in the syntax of `nft`, for people: what the nftables engine installs, in a
 * form that `nft -f` takes too. The engine itself does not need it.
 */
import type { Range } from "./config.ts";
import type { Cidr } from "../ip/cidr.ts";
import type { IpFamily } from "../ip/address.ts";
import type { NftHook } from "./nft_layout.ts";
import { COMMENT_PREFIX, type Match, type Rule, type Verdict } from "./ruleset.ts";

/** A table as the nftables engine plans it. */
export interface NftTextTable {
  readonly family: "inet" | "ip" | "ip6";
  readonly name: string;
  readonly chains: readonly {
    readonly name: string;
    readonly hook: NftHook | undefined;
    /** Each with the family that it is limited to; both when absent. */
    readonly rules: readonly { readonly rule: Rule; readonly family: IpFamily | undefined }[];
  }[];
}

/** Options of the text form. */
export interface NftTextOptions {
  /** Write each rule's comment; default `false`. */
  readonly comments?: boolean;
}

/** Longest comment that `nft` takes (`NFTNL_UDATA_COMMENT_MAXLEN`, with the closing NUL). */
const MAX_COMMENT = 127;

/** Names of the levels of syslog in `nft`. */
const levels = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

/**
 * Writes tables as a script for `nft -f`.
 *
 * @param tables The planned tables.
 * @returns Text with a final line end, empty without tables.
 * @throws {TypeError} when a name holds a character that `nft` has no form for.
 */
export function nftText(tables: readonly NftTextTable[], options: NftTextOptions = {}): string {
  const lines: string[] = [];
  for (const table of tables) {
    const names = new Set(table.chains.map((chain) => chain.name));
    lines.push(`table ${table.family} ${table.name} {`);
    for (const { name, hook, rules } of table.chains) {
      lines.push(`  chain ${name} {`);
      if (hook !== undefined) {
        lines.push(
          `    type ${hook.type} hook ${hook.hook} priority ${hook.priority}; policy accept;`,
        );
      }
      for (const { rule, family } of rules) {
        const limit = table.family === "inet" ? family : undefined;
        lines.push(`    ${nftRuleText(rule, limit, names, options)}`);
      }
      lines.push("  }");
    }
    lines.push("}");
  }
  return lines.map((line) => `${line}\n`).join("");
}

/**
 * Writes one rule.
 *
 * @param rule The rule.
 * @param limit Family that a rule of an `inet` table is limited to.
 * @param chains Names of the table's chains; a jump to any other chain ends the base chain, so that
 * the packet goes on to the table which has it.
 */
function nftRuleText(
  rule: Rule,
  limit: IpFamily | undefined,
  chains: ReadonlySet<string>,
  options: NftTextOptions = {},
): string {
  const addressed = rule.matches.some((match) => "cidr" in match && match.cidr.prefix > 0);
  const words = limit !== undefined && !addressed ? [`meta nfproto ${limit}`] : [];
  const protocol =
    rule.matches.flatMap((match) => match.kind === "protocol" ? [match.protocol] : [])[0];
  const ported = rule.matches.some((match) => "ports" in match);
  if (protocol !== undefined && !ported) words.push(`meta l4proto ${protocol}`);
  words.push(...rule.matches.flatMap((match) => matchText(match, protocol)));
  words.push(verdictText(rule.verdict, chains));
  if (options.comments) {
    words.push(`comment ${quote((COMMENT_PREFIX + rule.comment).slice(0, MAX_COMMENT))}`);
  }
  return words.join(" ");
}

function matchText(match: Match, protocol: string | undefined): string[] {
  switch (match.kind) {
    case "protocol":
      return [];
    case "source-port":
      return [`${protocol ?? "th"} sport ${not(match)}${portsText(match.ports)}`];
    case "destination-port":
      return [`${protocol ?? "th"} dport ${not(match)}${portsText(match.ports)}`];
    case "source-address":
      return [`${ip(match.cidr)} saddr ${not(match)}${cidrText(match.cidr)}`];
    case "destination-address":
      return [`${ip(match.cidr)} daddr ${not(match)}${cidrText(match.cidr)}`];
    case "input-interface":
      return match.name === "+" ? [] : [`iifname ${interfaceText(match.name)}`];
    case "output-interface":
      return match.name === "+" ? [] : [`oifname ${interfaceText(match.name)}`];
    case "owner":
      return [`meta skuid ${not(match)}${rangeText(match.uids)}`];
    case "conntrack-state":
      return [`ct state ${match.state}`];
  }
}

function not({ negated }: { readonly negated: boolean }): string {
  return negated ? "!= " : "";
}

function ip({ family }: Cidr): string {
  return family === "ipv4" ? "ip" : "ip6";
}

function cidrText({ family, address, prefix }: Cidr): string {
  return prefix === (family === "ipv4" ? 32 : 128) ? address : `${address}/${prefix}`;
}

function rangeText({ from, to }: Range): string {
  return from === to ? `${from}` : `${from}-${to}`;
}

function portsText(ports: readonly Range[]): string {
  const merged: { from: number; to: number }[] = [];
  for (const { from, to } of ports.toSorted((a, b) => a.from - b.from)) {
    const last = merged.at(-1);
    // `nft` refuses a set whose ranges overlap.
    if (last !== undefined && from <= last.to + 1) last.to = Math.max(last.to, to);
    else merged.push({ from, to });
  }
  return merged.length === 1 ? rangeText(merged[0]!) : `{ ${merged.map(rangeText).join(", ")} }`;
}

function interfaceText(name: string): string {
  const escaped = name.replace(/[\\*]/g, "\\$&");
  return quote(escaped.endsWith("+") ? `${escaped.slice(0, -1)}*` : escaped);
}

function verdictText(verdict: Verdict, chains: ReadonlySet<string>): string {
  switch (verdict.kind) {
    case "return":
    case "drop":
      return verdict.kind;
    case "jump":
      return chains.has(verdict.chain) ? `jump ${verdict.chain}` : "return";
    case "redirect":
      return `counter redirect to :${verdict.port}`;
    case "conntrack-zone":
      return `ct zone set ${verdict.zone}`;
    case "log":
      return `log prefix ${quote(verdict.prefix)} level ${levels[verdict.level] ?? "debug"}`;
  }
}

/** Texts of `nft` have no way to hold a quote. */
function quote(text: string): string {
  // deno-lint-ignore no-control-regex -- exactly the characters that could end the text
  if (/["\u0000-\u001f\u007f]/.test(text)) {
    throw new TypeError(`A quote or control character cannot be written: ${JSON.stringify(text)}`);
  }
  return `"${text}"`;
}
