/** Paths that follow from the settings. */
import { memberOf, parseJson, stringMemberOf } from "../conflist/json_edit.ts";
import type { Settings } from "./declarations.ts";

/** Folder of our own beside the configuration files, and beside the plugin. */
export const ownFolder = "kuma-cni.d";

/** Paths that follow from the settings. */
export interface Paths {
  /** Own folder in the net dir, as this process sees it. */
  readonly stateDir: string;
  readonly kubeconfig: string;
  /** The plugin in the bin dir, as this process sees it. */
  readonly plugin: string;
  /** The bin dir's path on the host. */
  readonly hostBinDir: string;
  /** The kubeconfig's path on the host. */
  readonly hostKubeconfig: string;
  /** The agent socket's path on the host. */
  readonly hostAgentSocket: string;
}

/** Returns the paths that follow from the settings. */
export function pathsOf(settings: Settings): Paths {
  return {
    stateDir: `${settings.mountedNetDir}/${ownFolder}`,
    kubeconfig: `${settings.mountedNetDir}/${settings.kubeconfigName}`,
    plugin: `${settings.mountedBinDir}/kuma-cni`,
    hostBinDir: hostBinDirOf(settings.networkConfig),
    hostKubeconfig: `${settings.netDir}/${settings.kubeconfigName}`,
    hostAgentSocket: `${settings.netDir}/${ownFolder}/agent.sock`,
  };
}

/** The chart tells the bin dir's host path only inside the network configuration. */
function hostBinDirOf(networkConfig: string): string {
  try {
    const kubernetes = memberOf(parseJson(networkConfig), "kubernetes");
    const path = kubernetes && stringMemberOf(kubernetes, "cni_bin_dir");
    if (path?.startsWith("/")) return path.replace(/(?<=.)\/+$/, "");
  } catch {
    // The settings were checked with the placeholders filled; without them the text may be no JSON.
  }
  return "/opt/cni/bin";
}
