/** Settings of `doctor`, which must also work where nobody has set any: by hand on a node. */
import type { Command } from "@commander-js/extra-typings";
import { exists } from "../host/paths.ts";
import { Operations } from "../host/operations.ts";
import { seenPath, viewRuntime } from "../host/runtime_view.ts";
import { declarations, type Settings } from "../settings/declarations.ts";
import { settingsOf } from "./command_settings.ts";

/** Where runtimes look for plugins unless they are told otherwise. */
const usualBinDir = "/opt/cni/bin";

/**
 * Reads the settings. Without `CNI_NETWORK_CONFIG` they are not the installation's; and where the
 * folders of a container are not there either, this is the host, whose runtime tells its own.
 */
export function doctorSettingsOf(
  command: Command,
): { readonly settings: Settings; readonly areKnown: boolean } {
  const settings = settingsOf(command, { needsConfig: false });
  if (settings.networkConfig !== "") return { settings, areKnown: true };
  const { mountedNetDir, mountedBinDir } = declarations;
  const isByHand = settings.mountedNetDir === mountedNetDir.default &&
    settings.mountedBinDir === mountedBinDir.default && !exists(mountedNetDir.default);
  return { settings: isByHand ? onHost(settings) : settings, areKnown: false };
}

/** Takes the folders from the runtime's configuration, which is seen below the host's root. */
export function onHost(settings: Settings): Settings {
  const root = exists(settings.mountedHostRoot) ? settings.mountedHostRoot : "/";
  const host = { ...settings, mountedHostRoot: root };
  const { runtime } = viewRuntime(new Operations(), host, [], () => undefined);
  const netDir = runtime.confDir ?? settings.netDir;
  const folders = runtime.programDirs ?? [usualBinDir];
  const binDir = folders.find((folder) => exists(`${seenPath(host, folder)}/kuma-cni`)) ??
    folders[0] ?? usualBinDir;
  return {
    ...host,
    netDir,
    mountedNetDir: seenPath(host, netDir),
    mountedBinDir: seenPath(host, binDir),
  };
}
