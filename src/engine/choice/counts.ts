/** How much of a pod's traffic was redirected, whatever engine has counted it. */
import type { RedirectConfig } from "../../redirect/config.ts";
import { LinuxError } from "../../linux/errno.ts";
import { EngineError } from "../engine.ts";
import { IptablesEngine } from "../iptables/iptables_engine.ts";
import { readRedirects } from "../nftables/counters.ts";
import { type RedirectCounts, sumOfRedirects } from "../redirect_counts.ts";
import type { EbpfForPod } from "./ebpf.ts";

/**
 * Reads the counts in the network namespace that the calling thread is in.
 *
 * @param counter what has installed the pod's rules
 * @param config what the rules were made from
 * @returns nothing where nothing counts, as rules of an earlier version or on a kernel without
 * counters, and where the numbers cannot be read, which says nothing about the rules
 */
export function readRedirectCounts(
  counter: Counter,
  config: RedirectConfig,
): RedirectCounts | undefined {
  try {
    return countsOf(counter, config);
  } catch (error) {
    if (error instanceof LinuxError || error instanceof EngineError) return undefined;
    throw error;
  }
}

type Counter = "nftables" | "iptables" | EbpfForPod;

function countsOf(
  counter: Counter,
  { inbound, outbound, dns }: RedirectConfig,
): RedirectCounts | undefined {
  const redirects = counter === "iptables" ? new IptablesEngine().readRedirects() : readRedirects();
  const byRules = redirects && sumOfRedirects(redirects, {
    outbound: outbound.port,
    inbound: [inbound.port, ...inbound.ipv6Port === undefined ? [] : [inbound.ipv6Port]],
    dns: dns.port,
  });
  if (typeof counter === "string") return byRules;
  const byPrograms = counter.readCounts();
  // Where programs cannot redirect incoming connections, rules of nftables do.
  return byPrograms && { ...byPrograms, inbound: byPrograms.inbound + (byRules?.inbound ?? 0) };
}
