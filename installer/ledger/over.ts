/** Which entries of the ledger are about sandboxes that are gone. Pure. */
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { HasResult } from "./runtime_results.ts";

/** What can be seen of the runtime's sandboxes; what cannot be seen is absent and decides nothing. */
export interface LedgerView {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** The kernel's identifier of this boot. */
  readonly boot: string;
  /** UIDs of this node's pods, while the watch runs. */
  readonly podUids?: ReadonlySet<string>;
  /** Whether the runtime keeps a result of a sandbox. */
  readonly hasResult?: HasResult;
  /** Whether a file of a namespace is there; `undefined` when its folder is not seen. */
  readonly hasNamespace?: (path: string) => boolean | undefined;
}

/** A pod can be seen later than its sandbox, and may be gone from the API before its DEL: patience. */
const patience = 10 * 60_000;

/** Returns the entries whose sandbox is gone. */
export function overEntries(
  entries: readonly LedgerEntry[],
  view: LedgerView,
): LedgerEntry[] {
  return entries.filter((entry) => isOver(entry, view));
}

/**
 * One certain sign is enough, when nothing says the opposite: an earlier boot, or a namespace whose
 * file is gone. That a pod is not in the API's list is none for its sandbox, which can outlive it, as
 * long as the runtime still has the chain.
 */
function isOver({ outcome, netns, podUid, sandbox, time }: LedgerEntry, view: LedgerView): boolean {
  if (outcome.result === "redirected" && outcome.namespace.boot !== view.boot) return true;
  const isYoung = Math.abs(view.now - time) < patience;
  const hasNamespace = view.hasNamespace?.(netns);
  if (hasNamespace !== undefined) return !hasNamespace && !isYoung;
  if (isYoung || view.hasResult?.(sandbox)) return false;
  return podUid !== undefined && view.podUids !== undefined && !view.podUids.has(podUid);
}
