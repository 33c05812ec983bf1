/**
 * What each configuration file is to us, and to which one the plugin is chained when the runtime is
 * containerd with its defaults; `runtime_target.ts` knows the others. Pure.
 *
 * Facts: libcni and containerd's go-cni take the files ending in `.conf`, `.conflist` and `.json`,
 * without sub-directories, in the order of their bytes, and load the first; a `.conflist` must hold a
 * list, the other two a single plugin; a first file that cannot be parsed makes the whole load fail.
 */
import { type ConfFile, jsonOf } from "../conflist/conf_file.ts";
import {
  isListOfSingle,
  listOf,
  pluginType,
  singleOf,
  singleOfReferenceList,
  typesOf,
} from "../conflist/conflist.ts";
import { JsonError, stringMemberOf } from "../conflist/json_edit.ts";

/** What a configuration file is to us. */
export type ConfKind =
  /** A list with at least one plugin that is not ours. */
  | { readonly kind: "list"; readonly types: readonly string[] }
  /** A single plugin that is not ours. */
  | { readonly kind: "single"; readonly type: string }
  /** A list that the reference installer wrote into a `.conf` file, with the text put right. */
  | { readonly kind: "reference-list"; readonly repaired: string }
  /** A list of ours beside a single plugin's file. */
  | { readonly kind: "derived" }
  /** A single plugin that is ours, or a list with nothing but our entry. */
  | { readonly kind: "own" }
  /** Not what a runtime can load. */
  | { readonly kind: "broken"; readonly reason: string };

const derivedSuffix = "-kuma.conflist";

/** Returns the name of the list that stands in for a single plugin's file, and sorts before it. */
export function derivedNameOf(name: string): string {
  return name.replace(/\.(conf|json)$/, "") + derivedSuffix;
}

/** Tells what a configuration file is. */
export function classify(file: ConfFile): ConfKind {
  const { name } = file;
  try {
    const json = jsonOf(file);
    if (name.endsWith(".conflist")) {
      const list = listOf(json);
      const types = typesOf(list);
      if (types.includes(pluginType)) {
        // The name alone is no proof: a list of somebody else may end like this, and ours are removed.
        if (name.endsWith(derivedSuffix) && isListOfSingle(list)) return { kind: "derived" };
        if (types.every((type) => type === pluginType)) return { kind: "own" };
      }
      if (types.length === 0) throw new JsonError("The array 'plugins' is empty");
      return { kind: "list", types };
    }
    const repaired = singleOfReferenceList(json);
    if (repaired !== undefined) return { kind: "reference-list", repaired };
    const type = stringMemberOf(singleOf(json).root, "type")!;
    return type === pluginType ? { kind: "own" } : { kind: "single", type };
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    return { kind: "broken", reason: error.message };
  }
}

/** As {@linkcode classify}, but knows our list beside a single plugin's file also when damaged. */
export function classifyAmong(files: readonly ConfFile[], file: ConfFile): ConfKind {
  const is = classify(file);
  const isOurs = is.kind === "broken" &&
    files.some((other) => derivedNameOf(other.name) === file.name);
  return isOurs ? { kind: "derived" } : is;
}

/** The file to chain to, or what is missing for it. */
export type Target =
  | { readonly kind: "found"; readonly file: ConfFile; readonly is: ConfKind }
  | {
    readonly kind: "waiting";
    /** In words, what is waited for. */
    readonly for: string;
    /** The file is there, but another program seems to be writing it. */
    readonly unreadable?: string;
  };

/**
 * Chooses the file to chain to.
 *
 * @param files The net dir's configuration files in the order of their bytes.
 * @param confName The configured name; empty: the file that the runtime loads.
 */
export function chooseTarget(files: readonly ConfFile[], confName: string): Target {
  const known = files.map((file) => ({ file, is: classifyAmong(files, file) }));
  if (confName !== "") {
    const name = twinOf(files, confName);
    const found = known.find(({ file }) => file.name === name);
    if (found === undefined) {
      const others = known.filter(({ is }) => isPrimary(is)).map(({ file }) => `"${file.name}"`);
      const hint = others.length === 0
        ? ""
        : `; there is ${others.join(", ")}: CNI_CONF_NAME may need that name, or none`;
      return { kind: "waiting", for: `the file "${confName}" of CNI_CONF_NAME${hint}` };
    }
    return usable(found);
  }
  const candidates = known.filter(({ is }) => is.kind !== "derived" && is.kind !== "own");
  const first = candidates.find(({ is }) => !isMetaPlugin(is));
  if (first !== undefined) return usable(first);
  const meta = candidates[0];
  return {
    kind: "waiting",
    for: meta === undefined
      ? "another CNI plugin's configuration"
      : `the configuration of the plugin behind "${meta.file.name}"; to chain to that file itself, ` +
        "set CNI_CONF_NAME to its name",
  };
}

function usable(found: { file: ConfFile; is: ConfKind }): Target {
  const { file, is } = found;
  if (is.kind === "broken") {
    return {
      kind: "waiting",
      for: `"${file.name}" to be readable: ${is.reason}`,
      unreadable: file.name,
    };
  }
  if (is.kind === "own" || is.kind === "derived") {
    return { kind: "waiting", for: `a plugin other than ours in "${file.name}"` };
  }
  return { kind: "found", ...found };
}

/** A primary plugin changes between single file and list with its version, under the same stem. */
function twinOf(files: readonly ConfFile[], confName: string): string {
  const has = (name: string) => files.some((file) => file.name === name);
  if (has(confName)) return confName;
  if (confName.endsWith(".conf") && has(`${confName}list`)) return `${confName}list`;
  const single = confName.replace(/\.conflist$/, ".conf");
  return has(single) ? single : confName;
}

function isPrimary(is: ConfKind): boolean {
  return is.kind === "list" || is.kind === "single" || is.kind === "reference-list";
}

/** A meta plugin calls the plugin of another file, to which we are chained instead. */
export function isMetaPlugin(is: ConfKind): boolean {
  const type = is.kind === "single" ? is.type : is.kind === "list" ? is.types[0] : undefined;
  return type === "multus" || type === "multus-shim" || type === "genie";
}
