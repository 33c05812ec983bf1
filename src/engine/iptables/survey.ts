/** What is in a namespace already, and which backend's tools to use there. */
import type { IpFamily } from "../../ip/address.ts";
import { COMMENT_PREFIX } from "../../redirect/ruleset.ts";
import { type LegacyRule, type LegacyTable, readLegacyTables } from "../../linux/legacy_tables.ts";
import type { NetlinkSocket } from "../../linux/netlink.ts";
import { hasOwnNftObjects, type NftTable, readNftTables } from "./nft_tables.ts";
import { isOwnName, PREDECESSOR_CHAINS } from "./own_chains.ts";
import type { Backend, ToolFinder, Tools } from "./tools.ts";
import { ToolError } from "./tool_error.ts";

/** What is in a namespace, as the kernel tells without any tool. */
export interface Survey {
  /** Tables of iptables' nf_tables backend; `undefined` when the kernel does not have nf_tables. */
  readonly nft: readonly NftTable[] | undefined;
  /** Whether there are tables of the engine "nftables". */
  readonly native: boolean;
  readonly legacy: Readonly<Record<IpFamily, readonly LegacyTable[]>>;
}

/**
 * Looks at the thread's network namespace; starts no process.
 *
 * @param found called before tables of iptables are read, of which most namespaces have none
 * @param netfilter socket of `NETLINK_NETFILTER` to ask over; without it a new one is opened
 */
export function surveyNamespace(found: () => void = () => {}, netfilter?: NetlinkSocket): Survey {
  const nft = readNftTables(found, netfilter);
  return {
    nft: nft?.tables,
    native: nft?.native ?? false,
    legacy: { ipv4: readLegacyTables("ipv4", found), ipv6: readLegacyTables("ipv6", found) },
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
    chains.some(isOwnName) || rules.some(isOwnLegacyRule)
  );
}

/**
 * Whether a backend has chains with the names of Kuma 2.7's, which may be somebody else's: only their
 * content, which a tool has to list, tells.
 */
export function mayHavePredecessor(
  survey: Survey,
  backend: Backend,
  families: readonly IpFamily[] = ["ipv4", "ipv6"],
): boolean {
  const tables = backend === "nft"
    ? (survey.nft ?? []).filter(({ family }) => families.includes(family))
    : families.flatMap((family) => survey.legacy[family]);
  return tables.some(({ name, chains }) =>
    name === "nat" && PREDECESSOR_CHAINS.every((chain) => chains.includes(chain))
  );
}

/**
 * Whether the nf_tables backend may hold rules of ours, or of the reference implementation, that
 * nothing but a tool's listing tells from those of others.
 */
export function hasUnmarkedRules(survey: Survey): boolean {
  const tables = survey.nft ?? [];
  return mayHavePredecessor(survey, "nft") || (["ipv4", "ipv6"] as const).some((family) => {
    const own = tables.filter((table) => table.family === family);
    const rules = own.flatMap((table) => table.rules);
    return own.some(({ chains }) => chains.some(isOwnName)) &&
      !rules.some(({ comment }) => comment) &&
      own.some(({ name, rules }) =>
        ["raw", "mangle", "nat"].includes(name) && rules.some(({ own }) => !own)
      );
  });
}

/** Whether a backend holds any rule at all. */
function hasRules(survey: Survey, backend: Backend): boolean {
  return (backend === "nft" ? survey.nft ?? [] : legacyTables(survey))
    .some(({ rules }) => rules.length > 0);
}

/**
 * Names of the tables among those given that hold rules of somebody else, in either backend and
 * family. Rules of the reference implementation without comments count as such, except those that
 * are in its chains or lead there; so do all of Kuma 2.7, which only a tool's listing tells apart.
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
  return (chain !== undefined && isOwnName(chain)) ||
    (target !== undefined && isOwnName(target)) || contains(bytes, COMMENT_PREFIX);
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
