/**
 * Chooses the engine for the network namespace that the calling thread is in, applies with it, and
 * then removes what another engine, or the reference implementation, had installed.
 */
import type { Ruleset } from "../redirect/ruleset.ts";
import { LinuxError } from "../linux/errno.ts";
import { type ApplyResult, type Engine, EngineError, type EngineName } from "./engine.ts";
import { IptablesEngine, type IptablesEngineOptions } from "./iptables/iptables_engine.ts";
import { hasDockerOutput, surveyNamespace, tablesWithForeignRules } from "./iptables/survey.ts";
import { NftablesEngine } from "./nftables/nftables_engine.ts";

/** The setting `engine` of the network configuration. */
export type EngineSetting = "auto" | EngineName;

/** An engine and why it was chosen. */
export interface EngineSelection {
  readonly engine: Engine;
  /** Engines whose earlier rules must go once the chosen one's are there. */
  readonly others: readonly Engine[];
  /** For the log. */
  readonly reason: string;
}

/** What an apply with a chosen engine did. */
export interface SelectedApplyResult extends ApplyResult {
  /** Why this engine. */
  readonly reason: string;
  /** Other engines whose earlier rules were removed. */
  readonly replaced: readonly EngineName[];
}

/**
 * Tables in which the order of our rules and others' decides: of several rules that translate a
 * connection, or put it into a conntrack zone, only the first one counts, and only within one
 * iptables table is it defined which that is.
 */
const ORDERED_TABLES = ["nat", "raw"];

/**
 * Chooses an engine. `auto` takes `nftables`, which needs no tool and installs everything in one
 * transaction, unless the namespace has iptables rules whose order with ours matters, or the kernel
 * does not have nf_tables. Starts no process unless there are such rules.
 *
 * @param setting from the network configuration
 * @param options for the iptables engine; only tests need any
 * @throws {EngineError} when the namespace cannot be examined
 */
export function selectEngine(
  setting: EngineSetting,
  options: IptablesEngineOptions = {},
): EngineSelection {
  const nftables = new NftablesEngine();
  const iptables = new IptablesEngine(options);
  const choose = (name: EngineName, reason: string): EngineSelection =>
    name === "nftables"
      ? { engine: nftables, others: [iptables], reason }
      : { engine: iptables, others: [nftables], reason };
  if (setting !== "auto") return choose(setting, "the network configuration says so");
  const { needed, why } = needsIptables();
  if (!needed) return choose("nftables", why);
  const problem = iptables.findProblem();
  // Rules at the same place of the packet's way in another table are better than no pod.
  return problem === undefined || why === NO_NF_TABLES
    ? choose("iptables", why)
    : choose("nftables", `${why}, but iptables cannot be used: ${problem}`);
}

const NO_NF_TABLES = "the kernel does not have nf_tables";

function needsIptables(): { needed: boolean; why: string } {
  let survey: ReturnType<typeof surveyNamespace>;
  try {
    survey = surveyNamespace();
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    throw new EngineError(
      `Cannot choose an engine: ${error.message}`,
      "nftables",
      { cause: error },
    );
  }
  if (survey.nft === undefined) return { needed: true, why: NO_NF_TABLES };
  const docker = (["nft", "legacy"] as const).some((backend) =>
    hasDockerOutput(survey, backend, "ipv4") || hasDockerOutput(survey, backend, "ipv6")
  );
  if (docker) return { needed: true, why: "the namespace has the iptables chain DOCKER_OUTPUT" };
  const tables = tablesWithForeignRules(survey, ORDERED_TABLES);
  if (tables.length > 0) {
    return {
      needed: true,
      why: `the namespace has iptables rules of others in ${
        tables.map((name) => `table ${name}`).join(" and ")
      }`,
    };
  }
  return { needed: false, why: "no iptables rules of others are in the way" };
}

/**
 * Chooses an engine, applies the ruleset with it, and removes the rules of the other engine after
 * that, so that there is no moment without rules.
 *
 * @throws {EngineError} when the ruleset cannot be applied, or when earlier rules of another engine
 * cannot be removed; the new rules are in force then, so that no traffic leaves the mesh
 */
export function applyWithSelectedEngine(
  setting: EngineSetting,
  ruleset: Ruleset,
  options: IptablesEngineOptions = {},
): SelectedApplyResult {
  const { engine, others, reason } = selectEngine(setting, options);
  const result = engine.apply(ruleset);
  const replaced = others.filter((other) => removeOther(other, engine)).map(({ name }) => name);
  return { ...result, reason, replaced };
}

function removeOther(other: Engine, engine: Engine): boolean {
  try {
    return other.remove();
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw new EngineError(
      `The rules of engine "${engine.name}" are installed, but earlier ones could not be removed: ` +
        error.message,
      other.name,
      { cause: error },
    );
  }
}
