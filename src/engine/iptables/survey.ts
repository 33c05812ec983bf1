/** What is in a namespace already, and which backend's tools to use there. */
import type { IpFamily } from "../../redirect/config.ts";
import { COMMENT_PREFIX } from "../../redirect/ruleset.ts";
import { type LegacyRule, type LegacyTable, readLegacyTables } from "../../linux/legacy_tables.ts";
import { hasOwnNftObjects, type NftTable, readNftTables } from "./nft_tables.ts";
import { isOwnChain } from "./own_rules.ts";
import type { Backend, ToolFinder, Tools } from "./tools.ts";
import { ToolError } from "./tool_runner.ts";

/** The tables of both backends, as the kernel tells without any tool. */
export interface Survey {
  /** `undefined` when the kernel does not have nf_tables. */
  readonly nft: readonly NftTable[] | undefined;
  readonly legacy: Readonly<Record<IpFamily, readonly LegacyTable[]>>;
}

/** Looks at the thread's network namespace; starts no process. */
export function surveyNamespace(): Survey {
  return {
    nft: readNftTables(),
    legacy: { ipv4: readLegacyTables("ipv4"), ipv6: readLegacyTables("ipv6") },
  };
}

/** Families that have tables in a backend. */
export function familiesWithTables(survey: Survey, backend: Backend): IpFamily[] {
  return (["ipv4", "ipv6"] as const).filter((family) =>
    backend === "legacy"
      ? survey.legacy[family].length > 0
      : survey.nft?.some((table) => table.family === family)
  );
}

/** Whether a backend holds anything of ours or of the reference implementation. */
export function hasOwnObjects(
  survey: Survey,
  backend: Backend,
  families: readonly IpFamily[] = ["ipv4", "ipv6"],
): boolean {
  if (backend === "nft") {
    return survey.nft?.some((table) =>
      families.includes(table.family) && hasOwnNftObjects(table)
    ) ?? false;
  }
  return families.flatMap((family) => survey.legacy[family]).some(({ chains, rules }) =>
    chains.some(isOwnChain) || rules.some(isOwnLegacyRule)
  );
}

/** Whether a backend holds any rule at all. */
function hasRules(survey: Survey, backend: Backend): boolean {
  return (backend === "nft" ? survey.nft ?? [] : legacyTables(survey))
    .some(({ rules }) => rules.length > 0);
}

/**
 * Names of the tables among those given that hold rules of somebody else, in either backend and
 * family. Rules of the reference implementation without comments count as such, except those that
 * are in its chains or lead there.
 */
export function tablesWithForeignRules(survey: Survey, names: readonly string[]): string[] {
  return names.filter((name) =>
    survey.nft?.some((table) => table.name === name && table.rules.some(({ own }) => !own)) ||
    legacyTables(survey).some((table) =>
      table.name === name && table.rules.some((rule) => !isOwnLegacyRule(rule))
    )
  );
}

function legacyTables({ legacy }: Survey): LegacyTable[] {
  return [...legacy.ipv4, ...legacy.ipv6];
}

function isOwnLegacyRule({ chain, target, bytes }: LegacyRule): boolean {
  return (chain !== undefined && isOwnChain(chain)) ||
    (target !== undefined && isOwnChain(target)) || contains(bytes, COMMENT_PREFIX);
}

/** Whether Docker's chain for its DNS is in the nat table of a backend. */
export function hasDockerOutput(survey: Survey, backend: Backend, family: IpFamily): boolean {
  const tables = backend === "nft"
    ? survey.nft?.filter((table) => table.family === family) ?? []
    : survey.legacy[family];
  return tables.some(({ name, chains }) => name === "nat" && chains.includes("DOCKER_OUTPUT"));
}

function contains(bytes: Uint8Array, text: string): boolean {
  const wanted = new TextEncoder().encode(text);
  const first = wanted[0] ?? 0;
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (wanted.every((byte, i) => bytes[at + i] === byte)) return true;
  }
  return false;
}

/**
 * Chooses the backend as the reference implementation does: that of the rules that are there; with
 * rules in both, or in none, nf_tables, unless only the legacy one has Docker's chain.
 *
 * @param notes gets a sentence when the choice may surprise
 * @throws {ToolError} when no tools can be used
 */
export function chooseTools(survey: Survey, finder: ToolFinder, notes: string[]): Tools {
  const legacyHasRules = hasRules(survey, "legacy");
  const nft = survey.nft === undefined ? undefined : finder.find("nft");
  if (nft !== undefined && !legacyHasRules) return nft;
  const legacy = finder.find("legacy");
  if (legacy === undefined || nft === undefined) {
    const tools = nft ?? legacy;
    if (tools === undefined) throw noTools(survey, finder);
    if (legacyHasRules && legacy === undefined) {
      notes.push("The namespace has legacy iptables rules, but there are no tools for them");
    }
    return tools;
  }
  if (!hasRules(survey, "nft")) return legacy;
  const docker = (backend: Backend) =>
    hasDockerOutput(survey, backend, "ipv4") || hasDockerOutput(survey, backend, "ipv6");
  if (docker("legacy") && !docker("nft")) return legacy;
  notes.push("The namespace has both legacy and nf_tables iptables rules; nf_tables is used");
  return nft;
}

/** The error for a host without usable tools. */
export function noTools(survey: Survey, finder: ToolFinder, backend?: Backend): ToolError {
  const why = [
    ...(survey.nft === undefined ? ["This kernel does not have nf_tables"] : []),
    ...finder.problems,
  ];
  return new ToolError(
    `Cannot use the engine "iptables": No usable ${
      backend === undefined ? "" : `${backend} `
    }"iptables-restore" and "iptables-save" in ${finder.folders.join(", ")}` +
      `${why.length === 0 ? "" : ` (${why.join("; ")})`}; ` +
      `install the package "iptables", or set the engine to "nftables"`,
  );
}
