/** What differs from the ledger in a pod's rules, in one line for people. Pure. */
import type { Difference } from "../../src/engine/engine.ts";
import { quote } from "../../src/text/quote.ts";

/** Most differences that are shown; the rest is counted. */
const shownDifferences = 3;
/** Longest rule that is shown: one that somebody else has made can have 64 KiB. */
const shownRule = 120;

/** Returns the differences in words. */
export function driftText(differences: readonly Difference[]): string {
  const shown = differences.slice(0, shownDifferences).map(({ kind, object, actual }) =>
    `${kind} ${quote(object, shownRule)}` +
    (actual === undefined ? "" : ` (${quote(actual, shownRule)})`)
  );
  const rest = differences.length - shown.length;
  return shown.concat(rest > 0 ? [`and ${rest} more`] : []).join(", ");
}
