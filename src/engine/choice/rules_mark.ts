/**
 * A mark of the rules in a network namespace, by which whoever looks again and again sees that nothing
 * has changed since they were compared, without the tools of iptables, which take ten times as long.
 */
import { createHash } from "node:crypto";
import { loopbackLink } from "../../linux/addresses.ts";
import { LinuxError } from "../../linux/errno.ts";
import { legacyRuleWithoutCounters, readLegacyTables } from "../../linux/legacy_tables.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../linux/netlink.ts";
import { readGeneration } from "../nftables/read_back.ts";
import { passthroughAddressDifferences } from "../passthrough_address.ts";
import { hasIpv6 } from "./facts.ts";

/**
 * Makes the mark of the namespace that the calling thread is in. It changes with each change of any
 * rule: nf_tables counts its transactions per namespace; of legacy tables it has what is in them.
 * Besides it has what rules are made from, and the address `::6`.
 *
 * @returns nothing where the kernel does not tell
 */
export function rulesMark(): string | undefined {
  try {
    using socket = new NetlinkSocket(NETLINK_NETFILTER);
    const hash = createHash("sha256");
    const facts = [readGeneration(socket), hasIpv6(), loopbackLink().name];
    hash.update(JSON.stringify([...facts, passthroughAddressDifferences()]));
    for (const family of ["ipv4", "ipv6"] as const) {
      for (const { name, chains, rules } of readLegacyTables(family)) {
        hash.update(JSON.stringify([family, name, chains, rules.length]));
        for (const rule of rules) {
          hash.update(JSON.stringify([rule.chain, rule.bytes.length]));
          for (const part of legacyRuleWithoutCounters(rule, family)) hash.update(part);
        }
      }
    }
    return hash.digest("base64");
  } catch (error) {
    if (error instanceof LinuxError) return undefined;
    throw error;
  }
}
