/** How commands look at running sandboxes: with the eBPF programs, which the agent may not see. */
import type { EbpfForPod } from "../../src/engine/choice/ebpf.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { Settings } from "../settings/declarations.ts";
import { type Look, lookAtSandbox } from "./look.ts";
import { seenNamespacePath } from "./namespace_path.ts";

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
  const ebpfOf = await programsOf(settings, entries);
  return (entry) =>
    lookAtSandbox(seenNamespacePath(settings, entry.netns), entry, {
      ...options,
      ...(ebpfOf === undefined ? {} : { ebpfOf }),
    });
}

/** Where programs of the engine `ebpf` are; loaded only when the ledger has a pod with some. */
async function programsOf(
  settings: Settings,
  entries: readonly LedgerEntry[],
): Promise<((entry: LedgerEntry) => EbpfForPod) | undefined> {
  if (
    !entries.some(({ outcome }) => outcome.result === "redirected" && outcome.engine === "ebpf")
  ) {
    return undefined;
  }
  const [{ EbpfForPod }, engine] = await Promise.all([
    import("../../src/engine/choice/ebpf.ts"),
    import("../../src/engine/ebpf/ebpf_engine.ts"),
  ]);
  return ({ sandbox, podUid }) =>
    new EbpfForPod(engine, {
      wanted: true,
      because: "the ledger says so",
      strict: true,
      containerId: sandbox,
      bpffs: settings.mountedBpffs || "/sys/fs/bpf",
      ...(podUid === undefined ? {} : { podUid }),
    });
}
