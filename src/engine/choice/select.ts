/** Chooses the engine for the network namespace that the calling thread is in. */
import type { IpFamily } from "../../ip/address.ts";
import type { Engine, EngineName } from "../engine.ts";
import { hasForeignOwner } from "../iptables/entrance.ts";
import { IptablesEngine, type IptablesEngineOptions } from "../iptables/iptables_engine.ts";
import { hasDockerOutput, type Survey, tablesWithForeignRules } from "../iptables/survey.ts";
import { NftablesEngine } from "../nftables/nftables_engine.ts";
import { AS_CONFIGURED, NOTHING_IN_THE_WAY } from "./nftables_alone.ts";

/** The setting `engine` of the network configuration. */
export type EngineSetting = "auto" | Exclude<EngineName, "ebpf">;

/** An engine and why it was chosen. */
export interface EngineSelection {
  readonly engine: Engine;
  /** The other engine, whose earlier rules must go once the chosen one's are there. */
  readonly other: Engine;
  /** For the log. */
  readonly reason: string;
}

/**
 * Tables in which the order of our rules and others' decides: of several rules that translate a
 * connection, or put it into a conntrack zone, only the first one counts, and only within one
 * iptables table is it defined which that is.
 */
const ORDERED_TABLES = ["nat", "raw"];

const BOTH_FAMILIES: readonly IpFamily[] = ["ipv4", "ipv6"];

/**
 * Chooses an engine. `auto` takes `nftables`, which needs no tool and installs everything in one
 * transaction, unless the namespace has iptables rules whose order with ours matters, or the kernel
 * does not have nf_tables. Starts no process unless there are such rules.
 *
 * @param setting from the network configuration
 * @param survey what is in the namespace
 * @param families what the rules are for
 * @param options for the iptables engine; only tests need any
 * @throws {LinuxError} when the namespace cannot be examined
 */
export function selectEngine(
  setting: EngineSetting,
  survey: Survey,
  families: readonly IpFamily[] = BOTH_FAMILIES,
  options: IptablesEngineOptions = {},
): EngineSelection {
  const nftables = new NftablesEngine();
  const iptables = new IptablesEngine({ ...options, survey });
  const choose = (name: EngineName, reason: string): EngineSelection =>
    name === "nftables"
      ? { engine: nftables, other: iptables, reason }
      : { engine: iptables, other: nftables, reason };
  if (setting !== "auto") return choose(setting, AS_CONFIGURED);
  if (survey.nft === undefined) return choose("iptables", "the kernel does not have nf_tables");
  const why = reasonForIptables(survey);
  if (why === undefined) return choose("nftables", NOTHING_IN_THE_WAY);
  // Rules at the same place of the packet's way in another table are better than no pod.
  if (hasForeignOwner()) {
    return choose(
      "nftables",
      `${why}, but the pod has a user namespace of its own, where iptables would need help`,
    );
  }
  const problem = iptables.findProblem(families);
  return problem === undefined
    ? choose("iptables", why)
    : choose("nftables", `${why}, but iptables cannot be used: ${problem}`);
}

function reasonForIptables(survey: Survey): string | undefined {
  const docker = (["nft", "legacy"] as const).some((backend) =>
    BOTH_FAMILIES.some((family) => hasDockerOutput(survey, backend, family))
  );
  if (docker) return "the namespace has the iptables chain DOCKER_OUTPUT";
  const tables = tablesWithForeignRules(survey, ORDERED_TABLES);
  if (tables.length === 0) return undefined;
  return `the namespace has iptables rules of others in ${
    tables.map((name) => `table ${name}`).join(" and ")
  }`;
}
