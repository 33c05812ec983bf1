/**
 * The pins of the engine `ebpf`, as DEL and GC meet them. It is asked for by every pod's end, so that
 * the engine is loaded only where there are any.
 */
import type { CniRequest } from "../cni/serve.ts";
import { readBpffsPath } from "../cni/settings.ts";
import { hasFile } from "../linux/kernel_file.ts";

/** Where systemd mounts the BPF file system. */
export const BPFFS = "/sys/fs/bpf";

/**
 * Tells whether the engine has pinned anything on this node since it was started. Asked for by each
 * meshed pod, which needs the C library in any case: an error of Deno's is three times as dear.
 */
export function hasPins(bpffs: string): boolean {
  return hasFile(`${bpffs}/kuma-cni`);
}

/** DEL and GC: removes the pins that nobody needs any more. The caller takes no failure for one. */
export async function removePinsOfHost(
  { environment: { verb, containerId }, config }: CniRequest,
): Promise<void> {
  const bpffs = readBpffsPath(config.values) ?? BPFFS;
  if (verb === "DEL") await unpinSandbox(bpffs, containerId);
  else await sweepPins(bpffs);
}

/**
 * DEL: removes the sandbox's pins, without which the kernel frees what they hold.
 *
 * @param bpffs Where the BPF file system is.
 * @param containerId Checked to be a name.
 */
async function unpinSandbox(bpffs: string, containerId: string): Promise<void> {
  // The one question that each pod outside of this engine pays for.
  if (!isThere(`${bpffs}/kuma-cni/${containerId}`)) return;
  const { pinFolderOf, unpin } = await import("../engine/ebpf/ebpf_engine.ts");
  unpin(pinFolderOf(bpffs, containerId));
}

/**
 * GC: removes pins whose network namespace is gone. The attachments that the runtime calls valid are
 * those of one network, so that others' pins would be taken for garbage by them.
 */
async function sweepPins(bpffs: string): Promise<void> {
  if (!hasPins(bpffs)) return;
  const engine = await import("../engine/ebpf/ebpf_engine.ts");
  engine.sweepPins(bpffs);
}

function isThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
