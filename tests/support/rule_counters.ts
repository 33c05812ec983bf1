/** How often each nat rule was met: as iptables counts it, and as the evaluator says. */
import type { IpFamily } from "../../src/ip/address.ts";
import type { TraceStep } from "../../src/redirect/evaluate.ts";
import { saved, type TestBackend } from "./iptables.ts";

/** Chain and position in it, from 1, for example `OUTPUT 3` → number of packets. */
export type RuleCounters = ReadonlyMap<string, number>;

/** Reads the counters of a family's nat table in the thread's network namespace; zeros are left out. */
export function readNatCounters(family: IpFamily, backend: TestBackend): RuleCounters {
  const counters = new Map<string, number>();
  const positions = new Map<string, number>();
  let table = "";
  for (const line of saved(family, backend, true).split("\n")) {
    if (line.startsWith("*")) table = line.slice(1);
    const [, packets, chain] = /^\[(\d+):\d+\] -A (\S+)/.exec(line) ?? [];
    if (table !== "nat" || chain === undefined) continue;
    const position = (positions.get(chain) ?? 0) + 1;
    positions.set(chain, position);
    if (Number(packets) > 0) counters.set(`${chain} ${position}`, Number(packets));
  }
  return counters;
}

/** Counts the nat rules that matched on packets' ways. */
export function countNatSteps(steps: Iterable<TraceStep>): RuleCounters {
  const counters = new Map<string, number>();
  for (const { table, chain, position, matched } of steps) {
    if (table !== "nat" || !matched) continue;
    const key = `${chain} ${position}`;
    counters.set(key, (counters.get(key) ?? 0) + 1);
  }
  return counters;
}

/** Tells where two counts, after the start, differ; `ignored` chains are not compared. */
export function differentCounters(
  start: RuleCounters,
  end: RuleCounters,
  expected: RuleCounters,
  ignored: (chain: string) => boolean,
): string[] {
  return [...new Set([...start.keys(), ...end.keys(), ...expected.keys()])].flatMap((key) => {
    const actual = (end.get(key) ?? 0) - (start.get(key) ?? 0);
    const wanted = expected.get(key) ?? 0;
    return actual === wanted || ignored(key.split(" ")[0]!)
      ? []
      : [`${key}: evaluator ${wanted}, kernel ${actual}`];
  });
}
