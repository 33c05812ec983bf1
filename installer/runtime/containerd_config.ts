/**
 * What containerd's configuration says about CNI. Pure but for its reader.
 *
 * Facts: containerd 1.6 to 2.3. A file of version 2 is valid under 2.x, too, so both sections are
 * looked for. Imports come after the file that names them. Up to 1.7 an import replaces the whole
 * table of a plugin, from 2.0 on tables are merged.
 */
import { parse } from "smol-toml";
import { messageOf } from "../../src/text/message_of.ts";
import {
  type ConfigReader,
  type Table,
  tableOf,
  textsOf,
  unreadable,
  withoutSlash,
} from "./config_reader.ts";

/** What containerd's configuration says about CNI. */
export interface ContainerdConfig {
  /** Whether containerd serves kubelet at all; Docker's own containerd does not. */
  readonly servesKubelet: boolean;
  readonly confDir: string;
  readonly programDirs: readonly string[];
  readonly maxConfNum: number;
  readonly warnings: readonly string[];
}

/** Names of the plugin that serves kubelet: of versions 1, 2 and 3 of the file. */
const sections = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

/** One file, imports being files of their own. */
interface Layer {
  readonly path: string;
  readonly document: Table;
}

/**
 * Reads containerd's configuration with its imports.
 *
 * @param path Path of the main file on the host; a missing one means the defaults.
 */
export function readContainerdConfig(path: string, reader: ConfigReader): ContainerdConfig {
  const warnings: string[] = [];
  const layers = layersOf(path, reader, new Set(), warnings);
  const version = Math.max(1, ...layers.map(({ document }) => Number(document.version) || 1));
  const merged = cniOf(layers.map(({ document }) => document), version, "merged");
  if (version < 3 && layers.length > 1) {
    const replaced = cniOf(layers.map(({ document }) => document), version, "replaced");
    if (JSON.stringify(settingsIn(merged)) !== JSON.stringify(settingsIn(replaced))) {
      warnings.push(
        `The imports of "${path}" mean other CNI settings to containerd 1.x than to 2.x; put all ` +
          "settings of the plugin into one file",
      );
    }
  }
  for (const [name, folder] of runtimeClassFolders(layers)) {
    warnings.push(
      `Pods of the runtime class handler "${name}" are not captured: containerd reads "${folder}" ` +
        "for them (cni_conf_dir)",
    );
  }
  const disabled = layers.flatMap(({ document }) => textsOf(document.disabled_plugins) ?? []);
  return {
    servesKubelet: !disabled.some((name) => sections.includes(name)),
    ...settingsIn(merged),
    warnings,
  };
}

function settingsIn(
  cni: Table,
): Pick<ContainerdConfig, "confDir" | "programDirs" | "maxConfNum"> {
  const { conf_dir, bin_dir, max_conf_num } = cni;
  const text = (value: unknown, preset: string) =>
    typeof value === "string" && value !== "" ? withoutSlash(value) : preset;
  const dirs = textsOf(cni.bin_dirs) ?? [text(bin_dir, "/opt/cni/bin")];
  return {
    confDir: text(conf_dir, "/etc/cni/net.d"),
    programDirs: dirs.map(withoutSlash),
    maxConfNum: typeof max_conf_num === "number" ? max_conf_num : 1,
  };
}

function cniOf(
  documents: readonly Table[],
  version: number,
  imports: "merged" | "replaced",
): Table {
  const order = version >= 3 ? [...sections].reverse() : [sections[1]!, sections[0]!, sections[2]!];
  for (const section of order) {
    let cni: Table | undefined;
    for (const document of documents) {
      const plugin = tableOf(tableOf(document.plugins)?.[section]);
      if (plugin === undefined) continue;
      const own = tableOf(plugin.cni) ?? {};
      cni = imports === "merged" ? { ...cni, ...own } : own;
    }
    if (cni !== undefined) return cni;
  }
  return {};
}

function* runtimeClassFolders(layers: readonly Layer[]): Generator<[string, string]> {
  for (const { document } of layers) {
    for (const section of sections) {
      const plugin = tableOf(tableOf(document.plugins)?.[section]);
      const runtimes = tableOf(tableOf(plugin?.containerd)?.runtimes) ?? {};
      for (const [name, runtime] of Object.entries(runtimes)) {
        const folder = tableOf(runtime)?.cni_conf_dir;
        if (typeof folder === "string" && folder !== "") yield [name, folder];
      }
    }
  }
}

/** A file and what it imports, in the order in which they count. */
function layersOf(
  path: string,
  reader: ConfigReader,
  seen: Set<string>,
  warnings: string[],
): Layer[] {
  if (seen.has(path) || seen.size >= 100) return [];
  seen.add(path);
  const text = reader.read(path);
  if (text === undefined) {
    if (reader.exists(path)) {
      warnings.push(`Cannot read "${path}" of containerd: ${unreadable}`);
    }
    return [];
  }
  let document: Table;
  try {
    document = parse(text);
  } catch (error) {
    warnings.push(`Cannot read "${path}" of containerd: ${messageOf(error).split("\n")[0]}`);
    return [];
  }
  const imports = (textsOf(document.imports) ?? []).flatMap((pattern) => {
    const folder = path.slice(0, path.lastIndexOf("/"));
    return filesLike(pattern.startsWith("/") ? pattern : `${folder}/${pattern}`, reader);
  });
  return [
    { path, document },
    ...imports.flatMap((imported) => layersOf(imported, reader, seen, warnings)),
  ];
}

/** Files that a pattern with `*` in its last part stands for. */
function filesLike(pattern: string, reader: ConfigReader): string[] {
  if (!pattern.includes("*")) return [pattern];
  const slash = pattern.lastIndexOf("/");
  const [folder, last] = [pattern.slice(0, slash), pattern.slice(slash + 1)];
  const parts = last.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  const expression = new RegExp(`^${parts.join("[^/]*")}$`);
  return (reader.list(folder) ?? []).filter((name) => expression.test(name))
    .map((name) => `${folder}/${name}`);
}
