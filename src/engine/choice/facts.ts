/** What the network namespace that the calling thread is in looks like, where it changes the rules. */
import { type Link, loopbackLink } from "../../linux/addresses.ts";
import type { IpFamily } from "../../ip/address.ts";
import type { NamespaceFacts } from "../../redirect/ruleset.ts";
import { hasDockerOutput, type Survey, surveyNamespace } from "../iptables/survey.ts";

/**
 * Tells the facts. Synchronous; needs `--allow-ffi`, `--allow-read` and `CAP_NET_ADMIN`.
 *
 * IPv6 counts as there when the kernel has it, also while no interface has an IPv6 address yet: rules
 * that nothing meets cost nothing, and an address may come later. Zones of connection tracking are
 * part of every kernel that has the `CT` target or `ct zone set` of nf_tables.
 *
 * @param survey What is in the namespace; without it this looks.
 * @param loopback Its loopback interface; without it this looks.
 * @throws {LinuxError} when the kernel refuses, for example without the capability.
 */
export function readNamespaceFacts(
  survey: Survey = surveyNamespace(),
  loopback: Link = loopbackLink(),
): NamespaceFacts {
  const ipv6 = hasIpv6();
  const docker = (family: IpFamily) =>
    hasDockerOutput(survey, "nft", family) || hasDockerOutput(survey, "legacy", family);
  return {
    loopback: loopback.name,
    ipv6,
    dockerOutput: { ipv4: docker("ipv4"), ipv6: ipv6 && docker("ipv6") },
    conntrackZones: true,
  };
}

/** Tells whether the kernel has IPv6 there, see {@linkcode readNamespaceFacts}. */
export function hasIpv6(): boolean {
  // /proc/net would be the namespace of the main thread.
  try {
    Deno.statSync("/proc/thread-self/net/if_inet6");
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
