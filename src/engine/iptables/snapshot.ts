/** The rules of both families at one time, and what to do with them family by family. */
import type { IpFamily } from "../../ip/address.ts";
import type { FamilyRuleset, Ruleset } from "../../redirect/ruleset.ts";
import type { Difference } from "../engine.ts";
import { compareRules } from "./compare_rules.ts";
import { planRestore, planRollback } from "./restore_plan.ts";
import type { SavedTables } from "./saved_rules.ts";

/** The rules of both families as one backend has them; a family without tables may be absent. */
export type Snapshot = ReadonlyMap<IpFamily, SavedTables>;

/** Both families. */
export const FAMILIES: readonly IpFamily[] = ["ipv4", "ipv6"];

const NOTHING: SavedTables = new Map();

/**
 * Plans for each family the text that installs a ruleset, or only removes ours without one.
 *
 * @returns texts of the families that have something to change
 */
export function planRestores(saved: Snapshot, ruleset?: Ruleset): Map<IpFamily, string> {
  return planFamilies((family) =>
    planRestore(saved.get(family) ?? NOTHING, familyOf(ruleset, family), ruleset?.comments ?? false)
  );
}

/** Plans for each family that has changed the text that brings back what was there before. */
export function planRollbacks(
  now: Snapshot,
  before: Snapshot,
  attempted: Ruleset,
): Map<IpFamily, string> {
  return planFamilies((family) => {
    const saved = now.get(family) ?? NOTHING;
    const former = before.get(family) ?? NOTHING;
    return sameRules(saved, former) ? "" : planRollback(saved, former, familyOf(attempted, family));
  });
}

function planFamilies(plan: (family: IpFamily) => string): Map<IpFamily, string> {
  return new Map(
    FAMILIES.map((family): [IpFamily, string] => [family, plan(family)])
      .filter(([, text]) => text !== ""),
  );
}

/** Compares the rules of some families with those expected. */
export function compareFamilies(
  saved: Snapshot,
  ruleset: Ruleset,
  families: readonly IpFamily[],
): Difference[] {
  return families.flatMap((family) =>
    compareRules(family, saved.get(family) ?? NOTHING, familyOf(ruleset, family))
  );
}

function familyOf(ruleset: Ruleset | undefined, family: IpFamily): FamilyRuleset | undefined {
  return ruleset?.families.find((rules) => rules.family === family);
}

function sameRules(a: SavedTables, b: SavedTables): boolean {
  const text = (tables: SavedTables) =>
    JSON.stringify(Array.from(tables, ([name, chains]) => [name, [...chains.values()]]));
  return text(a) === text(b);
}

/** Says in one line what the first difference is, and how many more there are. */
export function describe(differences: readonly Difference[]): string {
  const [first, ...more] = differences;
  if (first === undefined) return "";
  const values = [
    ...(first.expected === undefined ? [] : [`expected "${first.expected}"`]),
    ...(first.actual === undefined ? [] : [`got "${first.actual}"`]),
  ].join(", ");
  return `${first.object} is ${first.kind}${values === "" ? "" : `: ${values}`}` +
    (more.length === 0 ? "" : `; and ${more.length} more`);
}
