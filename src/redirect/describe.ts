/** Configurations and rules in words, for people in a hurry. */
import type { Range, RedirectConfig, UidExclusion } from "./config.ts";
import type { IpFamily } from "../ip/address.ts";
import type { FamilyRuleset, Match, Rule, Ruleset, Verdict } from "./ruleset.ts";

/** A setting's key path as in the config annotation, its value, and where the value came from. */
export interface EffectiveSetting {
  readonly key: string;
  readonly value: string;
  readonly origin: string;
}

/**
 * Lists the settings that decide about a pod's packets.
 *
 * @param config The effective configuration.
 * @param origins Key path → where the value came from; keys that it lacks have none.
 */
export function effectiveSettings(
  config: RedirectConfig,
  origins: ReadonlyMap<string, string>,
): EffectiveSetting[] {
  const direction = (name: "inbound" | "outbound"): [string, string][] => {
    const { enabled, port, ipv6Port, includePorts, excludePorts, excludeIps, excludeUids } =
      config[name];
    const path = `redirect.${name}`;
    return [
      [`${path}.enabled`, `${enabled}`],
      [`${path}.port`, `${port}`],
      ...(ipv6Port === undefined ? [] : [[`${path}.ipv6Port`, `${ipv6Port}`] as [string, string]]),
      [`${path}.includePorts`, list(includePorts)],
      [`${path}.excludePorts`, list(excludePorts)],
      [
        `${path}.excludePortsForIPs`,
        list(excludeIps.map(({ address, prefix }) => `${address}/${prefix}`)),
      ],
      [`${path}.excludePortsForUIDs`, list(excludeUids.map(uidExclusionText))],
      [`${path}.insertRedirectInsteadOfAppend`, `${config[name].insertInsteadOfAppend}`],
    ];
  };
  const { dns, log } = config;
  const entries: [string, string][] = [
    ["kumaDPUser", `${config.sidecarUid}`],
    ["ipFamilyMode", config.ipFamilyMode],
    ["rulesVersion", config.rulesVersion],
    ...direction("inbound"),
    ...direction("outbound"),
    ["redirect.dns.enabled", `${dns.enabled}`],
    ["redirect.dns.port", `${dns.port}`],
    ["redirect.dns.captureAll", `${dns.captureAll}`],
    ["redirect.dns.servers", list(dns.servers.map(({ address }) => address))],
    ["redirect.dns.skipConntrackZoneSplit", `${dns.skipConntrackZoneSplit}`],
    [
      "redirect.vnet.networks",
      list(
        config.virtualNetworks.map(({ interfaceName, cidr }) =>
          `${interfaceName}:${cidr.address}/${cidr.prefix}`
        ),
      ),
    ],
    ["dropInvalidPackets", `${config.dropInvalidPackets}`],
    ["log.enabled", `${log.enabled}`],
    ["log.level", `${log.level}`],
    ["comments.disabled", `${!config.comments}`],
  ];
  return entries.map(([key, value]) => ({ key, value, origin: origins.get(key) ?? "built in" }));
}

function list(items: readonly (string | number)[]): string {
  return items.length === 0 ? "none" : items.join(",");
}

function uidExclusionText({ protocol, ports, uids }: UidExclusion): string {
  return `${protocol}:${ports.map(rangeText).join("+")}:${rangeText(uids)}`;
}

function rangeText({ from, to }: Range): string {
  return from === to ? `${from}` : `${from}-${to}`;
}

/** Tells in a few lines where a pod's traffic goes; the answer that most questions look for. */
export function summary(config: RedirectConfig): string[] {
  const { inbound, outbound, dns, sidecarUid } = config;
  const lines = [
    direction("outgoing TCP", outbound, `UID ${sidecarUid} (the sidecar) goes direct`),
    direction("incoming TCP", inbound),
  ];
  const destination = dns.captureAll
    ? "any server"
    : dns.servers.map(({ address }) => address).join(", ");
  lines.push(
    dns.enabled && destination !== ""
      ? `DNS (UDP 53 to ${destination}) → port ${dns.port} of the sidecar`
      : "DNS → direct",
    config.ipFamilyMode === "dualstack"
      ? "IPv4 and, where the pod has it, IPv6"
      : `${familyName(config.ipFamilyMode)} only; traffic of the other family goes direct`,
  );
  return lines;
}

function direction(name: string, side: RedirectConfig["inbound"], direct?: string): string {
  if (!side.enabled) return `${name} → direct (redirection is off)`;
  const port = side.ipv6Port === undefined
    ? `${side.port}`
    : `${side.port} (IPv6 ${side.ipv6Port})`;
  const exceptions = [
    side.includePorts.length > 0
      ? `only ports ${side.includePorts.join(", ")}`
      : side.excludePorts.length > 0
      ? `but not ports ${side.excludePorts.join(", ")}`
      : undefined,
    side.excludeIps.length > 0
      ? counted(side.excludeIps.length, "network") + " excluded"
      : undefined,
    side.excludeUids.length > 0 ? counted(side.excludeUids.length, "UID exclusion") : undefined,
    direct,
  ].filter((text) => text !== undefined);
  return [`${name} → port ${port} of the sidecar`, ...exceptions].join("; ");
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** Name of a family as people write it. */
export function familyName(family: IpFamily): string {
  return family === "ipv4" ? "IPv4" : "IPv6";
}

/** Puts a rule's conditions into words; `every packet` without any. */
export function conditionsText(rule: Rule): string {
  const words = rule.matches.map(matchText);
  return words.length === 0 ? "every packet" : words.join(", ");
}

function matchText(match: Match): string {
  switch (match.kind) {
    case "protocol":
      return match.protocol.toUpperCase();
    case "source-port":
      return `${match.negated ? "not " : ""}from port ${match.ports.map(rangeText).join(",")}`;
    case "destination-port":
      return `${match.negated ? "not " : ""}to port ${match.ports.map(rangeText).join(",")}`;
    case "source-address":
      return `${match.negated ? "not " : ""}from ${match.cidr.address}/${match.cidr.prefix}`;
    case "destination-address":
      return `${match.negated ? "not " : ""}to ${match.cidr.address}/${match.cidr.prefix}`;
    case "input-interface":
      return `in by ${match.name}`;
    case "output-interface":
      return `out by ${match.name}`;
    case "owner":
      return `${match.negated ? "not " : ""}of UID ${rangeText(match.uids)}`;
    case "conntrack-state":
      return match.state;
  }
}

/**
 * Puts a verdict into words.
 *
 * @param base Whether the rule stands in a built-in chain, which "return" leaves for good.
 */
export function verdictText(verdict: Verdict, base: boolean): string {
  switch (verdict.kind) {
    case "return":
      return base ? "accept" : "return";
    case "drop":
      return "drop";
    case "jump":
      return `go to ${verdict.chain}`;
    case "redirect":
      return `redirect to port ${verdict.port}`;
    case "conntrack-zone":
      return `conntrack zone ${verdict.zone}`;
    case "log":
      return `log "${verdict.prefix}"`;
  }
}

/** What {@linkcode describeRules} tells about. */
export interface RulesDescription {
  /** What it is about, for example `Pod demo/app-1`. */
  readonly title: string;
  readonly config: RedirectConfig;
  readonly origins: ReadonlyMap<string, string>;
  readonly warnings: readonly string[];
  readonly ruleset: Ruleset;
  /** List also the settings that have their defaults; default `false`. */
  readonly allSettings?: boolean;
}

/**
 * Describes a decision to redirect: the summary first, then warnings, the settings, and the rules of
 * each family in words.
 *
 * @returns Text with a final line end.
 */
export function describeRules(description: RulesDescription): string {
  return [
    ...describeDecision(description),
    ...describeFamilies(description.ruleset),
  ].join("\n") + "\n";
}

/** The part of {@linkcode describeRules} before the rules, as lines. */
export function describeDecision(
  { title, config, origins, warnings, allSettings }: Omit<RulesDescription, "ruleset">,
): string[] {
  const settings = effectiveSettings(config, origins);
  const chosen = settings.filter(({ origin }) => allSettings || isChosen(origin));
  const lines = [`${title}: redirected`, "", ...summary(config).map((line) => `  ${line}`), ""];
  if (warnings.length > 0) {
    lines.push("Warnings", ...warnings.map((warning) => `  ! ${warning}`), "");
  }
  lines.push(
    "Settings",
    ...table(
      chosen.map((
        { key, value, origin },
      ) => [key, value, isChosen(origin) ? `from ${origin}` : origin]),
    ),
  );
  const others = settings.length - chosen.length;
  if (others > 0) lines.push(`  ${others} others have their defaults`);
  return [...lines, ""];
}

function isChosen(origin: string): boolean {
  return origin !== "default" && origin !== "built in";
}

function describeFamilies({ families }: Ruleset): string[] {
  const [first, second] = families;
  if (first === undefined) return ["No rules"];
  const lines = describeFamily(first);
  if (second === undefined) return lines;
  const same = (family: FamilyRuleset) =>
    JSON.stringify(family.tables)
      .replaceAll(/"(127\.0\.0\.([16])|::([16]))","prefix":(32|128)/g, '"$2$3"')
      .replaceAll(/"family":"ipv[46]"/g, "");
  return same(first) === same(second)
    ? [...lines, `Rules, ${familyName(second.family)}: the same, with ::1 and ::6`]
    : [...lines, ...describeFamily(second)];
}

function describeFamily({ family, tables }: FamilyRuleset): string[] {
  const count = tables.flatMap(({ chains }) => chains.flatMap(({ rules }) => rules)).length;
  const lines = [`Rules, ${familyName(family)} (${count})`];
  for (const { name, chains } of tables) {
    for (const chain of chains) {
      if (chain.rules.length === 0) continue;
      lines.push(`  ${name} ${chain.name}`);
      lines.push(
        ...table(chain.rules.map((rule) => [
          rule.id,
          conditionsText(rule),
          `→ ${verdictText(rule.verdict, chain.base)}`,
          rule.comment,
        ])).map((line) => `  ${line}`),
      );
    }
  }
  return [...lines, ""];
}

/** Longest column that others are aligned behind. */
const MAX_COLUMN = 72;

/** Aligns columns; the last one is as long as it is. */
function table(rows: readonly (readonly string[])[]): string[] {
  const width = (column: number) =>
    Math.max(0, ...rows.map((row) => row[column]!.length).filter((length) => length <= MAX_COLUMN));
  const widths = (rows[0] ?? []).map((_, column) => width(column));
  return rows.map((row) =>
    "  " + row.map((cell, column) => column < row.length - 1 ? cell.padEnd(widths[column]!) : cell)
      .join("  ")
  );
}
