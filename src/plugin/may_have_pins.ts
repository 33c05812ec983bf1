/** For a program that serves calls without the sight of the host's BPF file system. */
import { CniError } from "../cni/errors.ts";
import type { CniRequest } from "../cni/serve.ts";
import { readSettings } from "../cni/settings.ts";
import { EBPF_SETTING } from "../pod/ebpf_wish.ts";

/**
 * Tells of a network configuration whether pods may have pins: an administrator wants the engine, or
 * has since written what cannot be read.
 */
export function mayHavePins({ config }: Pick<CniRequest, "config">): boolean {
  try {
    const { engine, allowPodSettings } = readSettings(config.values);
    return engine === "ebpf" || allowPodSettings.includes(EBPF_SETTING);
  } catch (error) {
    if (error instanceof CniError) return true;
    throw error;
  }
}
