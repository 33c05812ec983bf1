/** What rules that redirect have counted, from what `iptables-save -c` printed. Pure. */
import type { CountedRedirect } from "../redirect_counts.ts";
import { findOwnRules } from "./own_rules.ts";
import { optionValue, parseOptions, type SavedTables } from "./saved_rules.ts";

/** Returns our redirections with their counts; those of others are passed over. */
export function redirectsOf(saved: SavedTables): CountedRedirect[] {
  const own = findOwnRules(saved, undefined, false).get("nat");
  return [...saved.get("nat")?.values() ?? []].flatMap(({ name, rules, packets }) =>
    rules.flatMap((rule, i) => {
      const connections = packets?.[i];
      if (connections === undefined || own?.get(name)?.[i] !== true) return [];
      const options = parseOptions(rule);
      if (optionValue(options, "-j") !== "REDIRECT") return [];
      return [{ port: Number(optionValue(options, "--to-ports")), connections }];
    })
  );
}
