/**
 * What CRI-O's configuration says about CNI. Pure but for its reader.
 *
 * Facts: `/etc/crio/crio.conf`, then every file below `/etc/crio/crio.conf.d`, whatever its name, in
 * the order of their bytes; later ones win key by key. Flags of the service are not seen.
 */
import { parse } from "smol-toml";
import { messageOf } from "../../src/text/message_of.ts";
import { type ConfigReader, tableOf, textsOf, unreadable, withoutSlash } from "./config_reader.ts";

/** What CRI-O's configuration says about CNI. */
export interface CrioConfig {
  readonly confDir: string;
  readonly programDirs: readonly string[];
  readonly defaultNetwork: string;
  readonly warnings: readonly string[];
}

/** Main file of CRI-O. */
export const crioConfigPath = "/etc/crio/crio.conf";
/** Folder of its drop-ins. */
export const crioDropIns = "/etc/crio/crio.conf.d";

/** Reads CRI-O's configuration with its drop-ins. */
export function readCrioConfig(reader: ConfigReader): CrioConfig {
  const warnings: string[] = [];
  const network: Record<string, unknown> = {};
  for (const path of [crioConfigPath, ...filesBelow(crioDropIns, reader, 4)]) {
    const text = reader.read(path);
    if (text === undefined) {
      if (reader.exists(path)) warnings.push(`Cannot read "${path}" of CRI-O: ${unreadable}`);
      continue;
    }
    try {
      Object.assign(network, tableOf(tableOf(parse(text).crio)?.network));
    } catch (error) {
      warnings.push(`Cannot read "${path}" of CRI-O: ${messageOf(error).split("\n")[0]}`);
    }
  }
  const { network_dir, plugin_dir, cni_default_network } = network;
  const dirs = textsOf(network.plugin_dirs) ?? ["/opt/cni/bin"];
  return {
    confDir: withoutSlash(
      typeof network_dir === "string" && network_dir !== "" ? network_dir : "/etc/cni/net.d",
    ),
    programDirs: [
      ...new Set(
        [...dirs, ...(typeof plugin_dir === "string" && plugin_dir ? [plugin_dir] : [])]
          .map(withoutSlash),
      ),
    ],
    defaultNetwork: typeof cni_default_network === "string" ? cni_default_network : "",
    warnings,
  };
}

/** Most drop-ins of one folder: real nodes have a few. */
const mostDropIns = 200;

function filesBelow(folder: string, reader: ConfigReader, depth: number): string[] {
  if (depth === 0) return [];
  return (reader.list(folder) ?? []).slice(0, mostDropIns).flatMap((name) => {
    const path = `${folder}/${name}`;
    return reader.list(path) === undefined ? [path] : filesBelow(path, reader, depth - 1);
  });
}
