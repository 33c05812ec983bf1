/** What is said about a bin dir that seems to be another folder on the host than it should be. Pure. */
import type { BinDirPath } from "../host/bin_dir_path.ts";
import type { Paths } from "../settings/paths.ts";

/**
 * Returns what keeps the program from starting on the host, and what may. When the administrator has
 * said where the bin dir is, that is the last word: a link can lead there that is not seen from here.
 */
export function binDirTrouble(
  seen: BinDirPath,
  paths: Paths,
): { readonly waitingFor?: string; readonly remark?: string } {
  if (seen.kind !== "other") return {};
  const { hostBinDir } = paths;
  if (paths.isHostBinDirSet) {
    return {
      remark: `"kubernetes.cni_bin_dir" is "${hostBinDir}", but the mounted bin dir seems to be ` +
        `"${seen.seen}" on the host: the plugin starts only if a link leads from the one to the other`,
    };
  }
  return {
    waitingFor: `"kubernetes.cni_bin_dir" in CNI_NETWORK_CONFIG: the mounted bin dir seems to be ` +
      `"${seen.seen}" on the host, and without that key the plugin would be made for ` +
      `"${hostBinDir}" and could not start`,
  };
}
