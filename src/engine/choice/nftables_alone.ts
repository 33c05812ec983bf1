/**
 * The work that the engine "nftables" can do alone, which is that of nearly every pod: nobody has used
 * iptables in its network namespace. Whoever works here loads nothing of the other engines, the code
 * of which is most of all engines', and starts no program.
 */
import type { Ruleset } from "../../redirect/ruleset.ts";
import { loopbackLink } from "../../linux/addresses.ts";
import { LinuxError } from "../../linux/errno.ts";
import {
  type NamespaceIdentity,
  networkNamespaceIdentity,
} from "../../linux/namespace_identity.ts";
import { NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket } from "../../linux/netlink.ts";
import { withNetworkNamespaceLock } from "../../linux/network_namespace_lock.ts";
import { EngineError } from "../engine.ts";
import { type Survey, surveyNamespace } from "../iptables/survey.ts";
import { NftablesEngine } from "../nftables/nftables_engine.ts";
import { readNamespaceFacts } from "./facts.ts";
import type { EngineSetting } from "./select.ts";
import type { Compile, RulesCheck, SelectedApplyResult } from "./work.ts";

/** The work needs an engine, or tools, or a wait, that it may not use; nothing has been changed. */
export class OtherEngineError extends Error {
  override readonly name = "OtherEngineError";
}

/** Why the engine was chosen: the setting says so. */
export const AS_CONFIGURED = "the network configuration says so";

/** Why the engine was chosen where the setting leaves that open. */
export const NOTHING_IN_THE_WAY = "no iptables rules of others are in the way";

/** What an apply with this engine did, and where. */
export interface NftablesApplyResult extends SelectedApplyResult {
  readonly namespace: NamespaceIdentity;
}

/**
 * Applies the rules as `applyWithSelectedEngine` of `work.ts` does, when this engine is enough.
 *
 * @param setting from the network configuration
 * @param mayWait whether it may wait, for others who work on the namespace and for its loopback
 * interface
 * @throws {OtherEngineError} when this engine is not enough, or a wait would be needed
 * @throws as `applyWithSelectedEngine`
 */
export function applyWithNftables(
  setting: EngineSetting,
  compile: Compile,
  mayWait = true,
): NftablesApplyResult {
  return withNetworkNamespaceLock((lock) => {
    requireNftables(setting);
    using netfilter = looking(() => new NetlinkSocket(NETLINK_NETFILTER));
    const survey = lookWithoutIptables(netfilter);
    using route = new NetlinkSocket(NETLINK_ROUTE);
    const loopback = loopbackLink(route);
    const ruleset = compile(readNamespaceFacts(survey, loopback));
    if (!mayWait && ruleset.ipv6PassthroughAddress && !loopback.up) {
      throw new OtherEngineError("The loopback interface is not up yet and has to be waited for");
    }
    const reason = setting === "auto" ? NOTHING_IN_THE_WAY : AS_CONFIGURED;
    const result = new NftablesEngine().apply(ruleset, { netfilter, route, loopback });
    return { ...result, reason, replaced: [], namespace: networkNamespaceIdentity(lock) };
  }, mayWait ? undefined : 0);
}

/**
 * Compares what is there with the rules, when no other engine can have installed any.
 *
 * @throws as {@linkcode applyWithNftables}
 */
export function verifyWithNftables(setting: EngineSetting, compile: Compile): RulesCheck {
  requireNftables(setting);
  const ruleset: Ruleset = compile(readNamespaceFacts(lookWithoutIptables()));
  return { engine: "nftables", differences: new NftablesEngine().verify(ruleset) };
}

/**
 * Looks at what is in the thread's network namespace.
 *
 * @param found called before tables of iptables are read, which may be large
 * @param netfilter socket of `NETLINK_NETFILTER` to ask over; without it a new one is opened
 * @throws {EngineError} when the kernel refuses
 */
export function lookAtNamespace(found?: () => void, netfilter?: NetlinkSocket): Survey {
  return looking(() => surveyNamespace(found, netfilter));
}

function looking<T>(look: () => T): T {
  try {
    return look();
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    throw new EngineError(
      `Cannot look at the rules that are in the namespace: ${error.message}`,
      "nftables",
      { cause: error },
    );
  }
}

function requireNftables(setting: EngineSetting): void {
  if (setting === "iptables") throw new OtherEngineError('The engine "iptables" is needed');
}

function lookWithoutIptables(netfilter?: NetlinkSocket): Survey {
  const survey = lookAtNamespace(() => {
    throw new OtherEngineError("The namespace has tables of iptables");
  }, netfilter);
  if (survey.nft === undefined) {
    throw new OtherEngineError("The kernel does not have nf_tables");
  }
  return survey;
}
