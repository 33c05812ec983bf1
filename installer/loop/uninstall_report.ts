/** What uninstalling has done, and what must stay for those who still call the plugin. */
import { cachedChains, cacheDirOf } from "../host/namers.ts";
import type { Operations } from "../host/operations.ts";
import type { PluginFiles } from "../host/plugin_files.ts";
import { viewRuntime } from "../host/runtime_view.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";

/** What uninstalling has done. */
export interface UninstallReport {
  /** What was removed or restored, each with its path. */
  readonly removed: readonly string[];
  /** What was looked for in vain, each with the folder that was looked in. */
  readonly notFound: readonly string[];
  /** A stub that answers DEL was left in the program's place, and why. */
  readonly stub?: string;
  /** What could not be known. */
  readonly unknown?: string;
}

/** Returns the report's head line. */
export function headOf(report: UninstallReport): string {
  if (report.stub !== undefined) return "Uninstalled, but for a stub that answers DEL";
  return report.removed.length === 0 ? "Nothing was installed" : "Uninstalled";
}

/** Returns the report as lines for people. */
export function linesOf(report: UninstallReport): string[] {
  return [
    headOf(report),
    ...report.removed.map((what) => `  removed: ${what}`),
    ...report.notFound.map((what) => `  not found: ${what}`),
    ...(report.stub === undefined ? [] : [`  left: ${report.stub}`]),
    ...(report.unknown === undefined ? [] : [`  not known: ${report.unknown}`]),
  ];
}

/**
 * Tells what uninstalling removes and leaves; asked when all entries are gone, and the rest is not.
 *
 * @param restored Names of the configuration files that were put right.
 */
export function reportOf(
  operations: Operations,
  settings: Settings,
  plugin: PluginFiles,
  restored: ReadonlySet<string>,
): UninstallReport {
  const paths = pathsOf(settings);
  const { netDir, mountedNetDir, mountedBinDir, kubeconfigName } = settings;
  const removed = Array.from(restored, (name) => `the entry of "${netDir}/${name}"`);
  const notFound: string[] = [];
  const note = (isThere: boolean, what: string, folder: string, setting: string) => {
    if (isThere) removed.push(`${what} in "${folder}"`);
    else notFound.push(`${what} in "${folder}" of ${setting}`);
  };
  if (restored.size === 0) {
    notFound.push(`an entry in the files of "${mountedNetDir}" of MOUNTED_CNI_NET_DIR`);
  }
  const hasKubeconfig = operations.status(paths.kubeconfig) !== undefined;
  note(hasKubeconfig, `the kubeconfig "${kubeconfigName}"`, mountedNetDir, "MOUNTED_CNI_NET_DIR");
  const isStub = plugin.isStub;
  const stay = whatStays(operations, settings, restored.size > 0 || plugin.isThere);
  if (!isStub || stay.stub === undefined) {
    const what = isStub ? "the stub of the plugin" : "the plugin";
    note(plugin.isThere, what, mountedBinDir, "MOUNTED_CNI_BIN_DIR");
  }
  return { removed, notFound, ...stay };
}

/** Who still needs an answer to DEL, once no configuration names the plugin; in words. */
function whatStays(
  operations: Operations,
  settings: Settings,
  isInstalled: boolean,
): Pick<UninstallReport, "stub" | "unknown"> {
  const { runtime } = viewRuntime(operations, settings, [], () => undefined);
  const chains = cachedChains(operations, settings);
  const cache = cacheDirOf(settings);
  if (operations.targetStatus(settings.mountedBinDir)?.kind !== "directory") return {};
  const program = `"${pathsOf(settings).plugin}"`;
  const again = "uninstall again when they are gone";
  if (chains.folder === undefined) {
    if (!isInstalled) return {};
    if (runtime.kind !== "cri-o") {
      return { unknown: `whether pods need the plugin to be deleted: "${cache}" is not there` };
    }
    return {
      stub:
        `${program} as a stub: CRI-O deletes pods that were started with the plugin by calling ` +
        `it, and "${cache}" of MOUNTED_CNI_CACHE_DIR is not there to tell whether there are any; ` +
        `${again}, with that folder`,
    };
  }
  // containerd itself deletes pods with the configuration in force, Multus with what it has stored.
  const isContainerd = runtime.kind === "containerd" && runtime.isCertain;
  const naming = [...isContainerd ? [] : chains.results, ...chains.multus];
  return naming.length === 0 ? {} : {
    stub: `${program} as a stub: ${naming.length} chain(s) of running pods name the plugin, for ` +
      `example "${naming[0]}", and these pods can only be deleted by calling it; ${again}`,
  };
}
