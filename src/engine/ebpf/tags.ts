/**
 * The kernel's hashes of the programs that a ruleset asks for. The kernel alone knows how it makes
 * them, so the programs are loaded, attached nowhere; once for all pods that are configured alike,
 * since whoever compares a node's pods would load the same programs hundreds of times.
 */
import { bpfProgramInfo } from "../../linux/bpf.ts";
import type { Ruleset } from "../../redirect/ruleset.ts";
import { loadUnlessOptional } from "./attach.ts";
import type { InboundWay } from "./interface.ts";
import { OpenMaps } from "./maps.ts";
import { type Hook, planPrograms } from "./programs.ts";

/** A program that should be at a place. */
export interface ExpectedProgram {
  readonly hook: Hook;
  /** Absent for an optional one that the kernel did not take. */
  readonly tag?: string;
}

/** Most rulesets whose tags are kept. */
const mostKept = 64;
const kept = new Map<string, readonly ExpectedProgram[]>();

/**
 * Tells which programs should be there.
 *
 * @throws {LinuxError} when the kernel refuses a program.
 */
export function expectedPrograms(ruleset: Ruleset, way: InboundWay): readonly ExpectedProgram[] {
  const key = `${way} ${JSON.stringify(ruleset.families)}`;
  const known = kept.get(key);
  if (known !== undefined) return known;
  const { cgroup, lookup } = planPrograms(ruleset, way);
  const planned = [...cgroup, ...lookup === undefined ? [] : [lookup]];
  if (planned.length === 0) return [];
  using maps = OpenMaps.create();
  const expected = planned.map((one): ExpectedProgram => {
    using program = loadUnlessOptional(one, maps, []);
    const { hook } = one;
    return program === undefined ? { hook } : { hook, tag: bpfProgramInfo(program).tag };
  });
  // A place that this kernel does not have is asked for each time: it may have refused for once only.
  if (expected.every(({ tag }) => tag !== undefined)) {
    if (kept.size >= mostKept) kept.clear();
    kept.set(key, expected);
  }
  return expected;
}
