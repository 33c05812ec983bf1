/** What the network namespace that the calling thread is in looks like, where it changes the rules. */
import { loopbackLink } from "../linux/addresses.ts";
import { LinuxError } from "../linux/errno.ts";
import { readLegacyTables } from "../linux/legacy_tables.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../linux/netlink.ts";
import type { IpFamily } from "../redirect/config.ts";
import type { NamespaceFacts } from "../redirect/ruleset.ts";
import { chainExists } from "./nftables/read_back.ts";

/** Chain in which Docker redirects its own DNS. */
const DOCKER_CHAIN = "DOCKER_OUTPUT";

/** Options of {@linkcode readNamespaceFacts}. */
export interface FactsOptions {
  /**
   * Tells whether Docker's chain exists in the legacy iptables nat table of a family, which nf_tables
   * does not show. Not asked when nf_tables has the chain; without it the table itself is read.
   */
  readonly legacyDockerOutput?: (family: IpFamily) => boolean;
}

/**
 * Reads the facts. Synchronous; needs `--allow-ffi`, `--allow-read` and `CAP_NET_ADMIN`.
 *
 * IPv6 counts as there when the kernel has it, also while no interface has an IPv6 address yet: rules
 * that nothing meets cost nothing, and an address may come later. Zones of connection tracking are
 * part of every kernel that has the `CT` target or `ct zone set` of nf_tables.
 *
 * @throws {LinuxError} when the kernel refuses, for example without the capability.
 */
export function readNamespaceFacts(options: FactsOptions = {}): NamespaceFacts {
  const legacy = options.legacyDockerOutput ?? hasLegacyDockerOutput;
  const ipv6 = hasIpv6();
  return {
    loopback: loopbackLink().name,
    ipv6,
    dockerOutput: {
      ipv4: hasDockerOutput("ip") || legacy("ipv4"),
      ipv6: ipv6 && (hasDockerOutput("ip6") || legacy("ipv6")),
    },
    conntrackZones: true,
  };
}

function hasIpv6(): boolean {
  // /proc/net would be the namespace of the main thread.
  try {
    Deno.statSync("/proc/thread-self/net/if_inet6");
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function hasDockerOutput(family: "ip" | "ip6"): boolean {
  try {
    using socket = new NetlinkSocket(NETLINK_NETFILTER);
    return chainExists(socket, family, "nat", DOCKER_CHAIN);
  } catch (error) {
    // A kernel without netfilter's netlink or nf_tables has no chain there.
    const without = ["EPROTONOSUPPORT", "EINVAL", "EOPNOTSUPP", "EAFNOSUPPORT"];
    if (error instanceof LinuxError && without.includes(error.code)) return false;
    throw error;
  }
}

function hasLegacyDockerOutput(family: IpFamily): boolean {
  return readLegacyTables(family).some(({ name, chains }) =>
    name === "nat" && chains.includes(DOCKER_CHAIN)
  );
}
