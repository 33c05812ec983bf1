/** The reference's complete rule lists for 16 configurations: both families, both forms. */
import type { RedirectConfig, RedirectRulesVersion } from "../../src/redirect/config.ts";
import type { IpFamily } from "../../src/ip/address.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import type { NamespaceFacts, TableName } from "../../src/redirect/ruleset.ts";

/** Lines `-A CHAIN …` by table; the order inside a chain counts, that of the chains does not. */
export type VectorTables = Partial<Record<TableName, readonly string[]>>;

/** One file of `tests/vectors/`. */
export interface Vector {
  readonly name: string;
  readonly title: string;
  /** Value of the config annotation that means this configuration, or … */
  readonly transparentProxyConfig?: Record<string, unknown>;
  /** … the legacy annotations that mean it. */
  readonly annotations?: Record<string, string>;
  /** What differs from the default configuration. */
  readonly redirectConfig: Partial<RedirectConfig>;
  readonly resolvers: readonly string[];
  readonly dockerOutput: Readonly<Record<IpFamily, boolean>>;
  readonly rules: Readonly<Record<RedirectRulesVersion, Readonly<Record<IpFamily, VectorTables>>>>;
}

const directory = new URL("../vectors/", import.meta.url);

/** Reads all vectors, C0 to C15. */
export function readVectors(): readonly Vector[] {
  return Array.from(
    { length: 16 },
    (_, index) => JSON.parse(Deno.readTextFileSync(new URL(`C${index}.json`, directory))) as Vector,
  );
}

/** The complete configuration of a vector in one of the forms. */
export function vectorConfig(vector: Vector, rulesVersion: RedirectRulesVersion): RedirectConfig {
  const { inbound, outbound, dns, ...rest } = vector.redirectConfig;
  const base = defaultRedirectConfig;
  return {
    ...base,
    ...rest,
    inbound: { ...base.inbound, ...inbound },
    outbound: { ...base.outbound, ...outbound },
    dns: { ...base.dns, ...dns },
    rulesVersion,
  };
}

/** The namespace that a vector's lists were taken from. */
export function vectorFacts(vector: Vector): NamespaceFacts {
  return {
    loopback: "lo",
    ipv6: true,
    dockerOutput: vector.dockerOutput,
    conntrackZones: true,
  };
}

/**
 * Groups the `-A` lines of a text in the form of `iptables-save` by table and chain, comments and
 * everything else left out, so that two listings can be compared.
 */
export function groupRules(text: string): Record<string, string[]> {
  const groups: Record<string, string[]> = {};
  let table = "";
  for (const line of text.split("\n")) {
    if (line.startsWith("*")) table = line.slice(1).trim();
    if (!line.startsWith("-A ")) continue;
    const plain = line.replace(/ -m comment --comment ("(\\.|[^"\\])*"|\S+)/, "").trimEnd();
    (groups[`${table} ${plain.split(" ")[1]}`] ??= []).push(plain);
  }
  return groups;
}

/** The expected listing of one family in the grouping of {@linkcode groupRules}. */
export function vectorRules(tables: VectorTables): Record<string, string[]> {
  return groupRules(
    Object.entries(tables).map(([name, lines]) => `*${name}\n${lines.join("\n")}`).join("\n"),
  );
}
