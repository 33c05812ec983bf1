/**
 * The pins of the engine `ebpf`, as DEL and GC meet them. It is asked for by every pod's end, so that
 * the engine is loaded only where there are any.
 */

/** Where systemd mounts the BPF file system. */
export const BPFFS = "/sys/fs/bpf";

/** Tells whether the engine has pinned anything on this node since it was started. */
export function hasPins(bpffs: string): boolean {
  return isThere(`${bpffs}/kuma-cni`);
}

/**
 * DEL: removes the sandbox's pins, without which the kernel frees what they hold.
 *
 * @param bpffs Where the BPF file system is.
 * @param containerId Checked to be a name.
 */
export async function unpinSandbox(bpffs: string, containerId: string): Promise<void> {
  // The one question that each pod outside of this engine pays for.
  if (!isThere(`${bpffs}/kuma-cni/${containerId}`)) return;
  const { pinFolderOf, unpin } = await import("../engine/ebpf/ebpf_engine.ts");
  unpin(pinFolderOf(bpffs, containerId));
}

/**
 * GC: removes pins whose network namespace is gone. The attachments that the runtime calls valid are
 * those of one network, so that others' pins would be taken for garbage by them.
 */
export async function sweepPins(bpffs: string): Promise<void> {
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
