/** How commands look at running sandboxes: they wait for what the agent loads beforehand. */
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { Settings } from "../settings/declarations.ts";
import { type Look, lookAtSandbox } from "./look.ts";
import { seenNamespacePath } from "./namespace_path.ts";
import { hasPrograms, loadProgramsOf } from "./pod_programs.ts";

/**
 * Prepares looks at sandboxes, which change nothing.
 *
 * @param entries Those that may be looked at.
 * @param options `counts`: whether to read how much was redirected.
 */
export async function sandboxLooker(
  settings: Settings,
  entries: readonly LedgerEntry[],
  options: { readonly counts?: boolean } = {},
): Promise<(entry: LedgerEntry) => Look> {
  const programsOf = entries.some(hasPrograms) ? await loadProgramsOf(settings) : undefined;
  return (entry) =>
    lookAtSandbox(seenNamespacePath(settings, entry.netns), entry, {
      ...options,
      ...(programsOf === undefined ? {} : { ebpfOf: programsOf }),
    });
}
