/** What this kernel lets this process do: found out by loading, never by its version. */
import { loadBpfProgram } from "../../linux/bpf.ts";
import { LinuxError } from "../../linux/errno.ts";
import { compileRuleset } from "../../redirect/compile.ts";
import { defaultRedirectConfig } from "../../redirect/defaults.ts";
import type { EbpfAbility } from "./interface.ts";
import { OpenMaps } from "./maps.ts";
import { LOOKUP_HOOK, OPTIONAL_HOOKS, type PlannedProgram, planPrograms } from "./programs.ts";

/**
 * Loads the programs of a usual pod, attaches none, and tells what the kernel said.
 *
 * That a program can be attached is known only at the pod's cgroup.
 */
export function probe(): EbpfAbility {
  const reasons: string[] = [];
  const works = (work: () => void): boolean => {
    try {
      work();
      return true;
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
      reasons.push(error.message);
      return false;
    }
  };
  using stack = new DisposableStack();
  let maps: OpenMaps | undefined;
  if (!works(() => maps = stack.use(OpenMaps.create())) || maps === undefined) {
    return { outbound: false, skLookup: false, getPeerName: false, reasons };
  }
  const { descriptors } = maps;
  const { cgroup, lookup } = usualPrograms();
  const loads = ({ hook, program }: PlannedProgram): boolean =>
    works(() => {
      using _ = loadBpfProgram({ ...hook, instructions: program.assemble(descriptors) });
    });
  const optional = cgroup.filter(({ hook }) => OPTIONAL_HOOKS.has(hook));
  return {
    outbound: cgroup.filter((one) => !optional.includes(one)).map(loads).every(Boolean),
    skLookup: lookup?.hook === LOOKUP_HOOK && loads(lookup),
    getPeerName: optional.map(loads).every(Boolean),
    reasons,
  };
}

function usualPrograms() {
  const facts = {
    ...{ loopback: "lo", ipv6: true, conntrackZones: true },
    dockerOutput: { ipv4: false, ipv6: false },
  };
  const dns = { ...defaultRedirectConfig.dns, enabled: true, captureAll: true };
  return planPrograms(compileRuleset({ ...defaultRedirectConfig, dns }, facts), "sk_lookup");
}
