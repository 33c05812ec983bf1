/**
 * One configuration file as libcni reads it. Pure.
 *
 * Facts: libcni 1.3, `conf.go`: the keys of a list go through a map, so their case counts; those of a
 * plugin fill a struct, so it does not. Unless `loadOnlyInlinedPlugins` is true, the plugins in
 * `<net dir>/<network name>/*.conf` follow those of the list.
 */
import { supportedVersions } from "../../src/cni/versions.ts";
import { type ConfFile, jsonOf } from "../conflist/conf_file.ts";
import { singleOf } from "../conflist/conflist.ts";
import { checkNumbers, checkPluginFields } from "../conflist/plugin_fields.ts";
import {
  JsonError,
  type JsonNode,
  memberOf,
  stringFieldOf,
  stringMemberOf,
} from "../conflist/json_edit.ts";

/** The net dir as a runtime finds it. */
export interface NetDir {
  /** Configuration files in the order of their bytes. */
  readonly files: readonly ConfFile[];
  /** Files ending in `.conf` of the folders beside them, by the folder's name. */
  readonly folders: ReadonlyMap<string, readonly ConfFile[]>;
  /** Whether the program of a plugin is in one of the runtime's folders, as far as can be seen. */
  hasProgram(type: string): boolean;
}

/** A network: the plugins that are called one after the other. */
export interface Network {
  /** File that it was read from. */
  readonly file: string;
  readonly name: string;
  /** Versions that it may be called with, depending on the runtime's age; `""`: none is given. */
  readonly versions: readonly string[];
  readonly plugins: readonly JsonNode[];
  /** Types of the plugins, in order. */
  readonly types: readonly string[];
  /** Whether plugins come from the folder beside the file. */
  readonly usesFolder: boolean;
}

/**
 * Reads a network.
 *
 * @throws {JsonError} when libcni would refuse it.
 */
export function readNetwork(file: ConfFile, dir: Pick<NetDir, "folders">): Network {
  if (!file.name.endsWith(".conflist")) {
    const { root } = singleOf(jsonOf(file));
    checkPluginFields(root);
    checkNumbers(root);
    return {
      file: file.name,
      name: stringFieldOf(root, "name") ?? "",
      versions: [stringFieldOf(root, "cniVersion") ?? ""],
      plugins: [root],
      types: [stringFieldOf(root, "type")!],
      usesFolder: false,
    };
  }
  const { root } = jsonOf(file);
  if (root.kind !== "object") throw new JsonError("Expected an object with the key 'name'");
  checkNumbers(root);
  const name = stringMemberOf(root, "name");
  if (name === undefined) throw new JsonError("Expected a string at 'name'");
  const onlyInlined = isTrue(root, "loadOnlyInlinedPlugins");
  const inlined = inlinedPlugins(memberOf(root, "plugins"), onlyInlined);
  const folder = onlyInlined ? [] : dir.folders.get(name) ?? [];
  const added = folder.map((conf) => readPluginFile(conf, name));
  const plugins = [...inlined, ...added];
  if (plugins.length === 0) throw new JsonError("There is no plugin in it");
  return {
    file: file.name,
    name,
    versions: versionsOf(root),
    plugins,
    types: plugins.map((plugin) => stringFieldOf(plugin, "type")!),
    usesFolder: added.length > 0,
  };
}

/** Reads a plugin of the folder beside the file. */
function readPluginFile(conf: ConfFile, folder: string): JsonNode {
  try {
    if (conf.text === undefined) throw new JsonError(conf.problem ?? "Cannot be read");
    const plugin = singleOf(jsonOf(conf)).root;
    checkPluginFields(plugin);
    checkNumbers(plugin);
    return plugin;
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new JsonError(`"${folder}/${conf.name}": ${error.message}`);
  }
}

function inlinedPlugins(plugins: JsonNode | undefined, onlyInlined: boolean): readonly JsonNode[] {
  if (plugins === undefined) {
    if (onlyInlined) throw new JsonError("The key 'plugins' is missing");
    return [];
  }
  if (plugins.kind !== "array") throw new JsonError("Expected an array at 'plugins'");
  if (plugins.items.length === 0) throw new JsonError("The array 'plugins' is empty");
  for (const [i, plugin] of plugins.items.entries()) {
    if (!stringFieldOf(plugin, "type")) {
      throw new JsonError(`Expected a non-empty string at 'plugins[${i}].type'`);
    }
    checkPluginFields(plugin, `plugins[${i}]`);
  }
  return plugins.items;
}

/** The versions of a list: libcni 1.3 takes the newest of both keys, older ones know the first only. */
function versionsOf(root: JsonNode): string[] {
  const single = memberOf(root, "cniVersion");
  if (single !== undefined && stringMemberOf(root, "cniVersion") === undefined) {
    throw new JsonError("Expected a string at 'cniVersion'");
  }
  const first = stringMemberOf(root, "cniVersion") ?? "";
  const several = memberOf(root, "cniVersions");
  if (several === undefined) return [first];
  const texts = several.kind === "array"
    ? several.items.map((item) => item.kind === "scalar" ? item.value : undefined)
    : [undefined];
  if (!texts.every((text) => typeof text === "string")) {
    throw new JsonError("Expected an array of strings at 'cniVersions'");
  }
  // libcni passes over those that are newer than itself.
  const newest = supportedVersions().at(-1)!;
  const known = [...texts, ...(first === "" ? [] : [first])]
    .filter((text) => compareVersions(text, newest) <= 0).sort(compareVersions);
  return [...new Set([first, known.at(-1) ?? first])];
}

function compareVersions(one: string, other: string): number {
  const [a, b] = [one, other].map((text) => text.split(".").map(Number)) as [number[], number[]];
  for (let i = 0; i < 3; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0 && !Number.isNaN(difference)) return difference;
  }
  return 0;
}

function isTrue(root: JsonNode, key: string): boolean {
  const value = memberOf(root, key);
  if (value === undefined) return false;
  const text = value.kind === "scalar" ? String(value.value).toLowerCase() : "";
  if (text !== "true" && text !== "false") {
    throw new JsonError(`Expected true or false at '${key}'`);
  }
  return text === "true";
}

/** Returns the version of a network that our plugin does not speak, if there is one. */
export function unknownVersionOf(network: Network): string | undefined {
  const known = supportedVersions();
  return network.versions.find((version) => version !== "" && !known.includes(version));
}
