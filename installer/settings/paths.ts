/** Paths that follow from the settings. */
import type { Settings } from "./declarations.ts";
import { readPluginEntry } from "./plugin_entry.ts";

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
  /** Whether the administrator has said so, or it is only the usual one. */
  readonly isHostBinDirSet: boolean;
  /** The kubeconfig's path on the host. */
  readonly hostKubeconfig: string;
  /** The agent socket's path on the host. */
  readonly hostAgentSocket: string;
  /** Socket on which the agent answers whole calls, as this process sees it. */
  readonly callSocket: string;
  /** The same socket's path on the host. */
  readonly hostCallSocket: string;
}

/** Where runtimes look for plugins unless they are told otherwise. */
const usualBinDir = "/opt/cni/bin";

/** Returns the paths that follow from the settings. */
export function pathsOf(settings: Settings): Paths {
  // The chart tells the bin dir's host path only inside the network configuration.
  const hostBinDir = settings.networkConfig === ""
    ? undefined
    : readPluginEntry(settings.networkConfig).settings.cniBinDir;
  return {
    stateDir: `${settings.mountedNetDir}/${ownFolder}`,
    kubeconfig: `${settings.mountedNetDir}/${settings.kubeconfigName}`,
    plugin: `${settings.mountedBinDir}/kuma-cni`,
    hostBinDir: (hostBinDir ?? usualBinDir).replace(/(?<=.)\/+$/, ""),
    isHostBinDirSet: hostBinDir !== undefined,
    hostKubeconfig: `${settings.netDir}/${settings.kubeconfigName}`,
    hostAgentSocket: `${settings.netDir}/${ownFolder}/agent.sock`,
    callSocket: `${settings.mountedNetDir}/${ownFolder}/call.sock`,
    hostCallSocket: `${settings.netDir}/${ownFolder}/call.sock`,
  };
}
