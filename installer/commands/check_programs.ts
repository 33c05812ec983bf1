/** The check of a pod's eBPF programs by hand: what `install-cni check --netns … --cgroup …` does. */
import { compileRuleset } from "../../src/redirect/compile.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import { readNamespaceFacts } from "../../src/engine/choice/facts.ts";
import type { EbpfCounters, EbpfModule } from "../../src/engine/ebpf/interface.ts";
import type { Difference } from "../../src/engine/engine.ts";

/** Loads the engine, which only a check with a cgroup needs. */
export async function loadEbpf(): Promise<EbpfModule> {
  return await import("../../src/engine/ebpf/ebpf_engine.ts");
}

/**
 * Compares the programs at a cgroup and in the calling thread's network namespace with what a
 * configuration asks for.
 *
 * @param config what should be there; without it no program should
 * @returns nothing when the cgroup has no program of ours
 * @throws {EngineError} when they cannot be compared
 * @throws {LinuxError} when there is no such folder, or a capability is missing
 */
export function checkPrograms(
  ebpf: EbpfModule,
  cgroup: string,
  config: RedirectConfig | undefined,
): { readonly differences: readonly Difference[]; readonly counts: EbpfCounters } | undefined {
  const counts = ebpf.readCounters(cgroup);
  if (counts === undefined) return undefined;
  const ruleset = config === undefined
    ? { families: [], comments: false, ipv6PassthroughAddress: false }
    : compileRuleset(config, readNamespaceFacts());
  return {
    differences: new ebpf.EbpfEngine({ cgroup }).verify(ruleset),
    counts,
  };
}

/** The counts as lines for people. */
export function countLines(counts: EbpfCounters): string[] {
  const { outbound, inbound, dns, refused, lost, programs } = counts;
  const ran = programs.filter(({ runs }) => runs > 0);
  return [
    `  redirected: ${outbound} outbound, ${inbound} inbound, ${dns} DNS; ` +
    `refused: ${refused}; destination lost: ${lost}`,
    ...(ran.length === 0
      ? [
        "  runs of programs: not counted (sysctl kernel.bpf_stats_enabled=1 makes the kernel count)",
      ]
      : ran.map(({ name, runs, nanoseconds }) =>
        `  ${name}: ${runs} runs, ${Math.round(nanoseconds / runs)} ns each`
      )),
  ];
}
