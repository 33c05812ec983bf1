/** To which file the plugin is chained under each runtime, and whether pods then get to it. Pure. */
import { CniError } from "../../src/cni/errors.ts";
import { readPluginSettings } from "../../src/cni/plugin_settings.ts";
import { supportedVersions } from "../../src/cni/versions.ts";
import { type ConfFile, jsonOf } from "../conflist/conf_file.ts";
import { listOf, pluginType, unchain } from "../conflist/conflist.ts";
import { byteString, JsonError, stringFieldOf, valueOf } from "../conflist/json_edit.ts";
import type { Observed } from "../host/observe.ts";
import { obstacleOf } from "../runtime/capture.ts";
import { load } from "../runtime/load.ts";
import { delegateOf, multusIn } from "../runtime/multus.ts";
import { type Network, readNetwork, unknownVersionOf } from "../runtime/network.ts";
import { loadsSeveralFiles } from "../runtime/runtime.ts";
import type { Settings } from "../settings/declarations.ts";
import { chooseTarget, classifyAmong, derivedNameOf, isMetaPlugin, type Target } from "./detect.ts";
import type { Step } from "./steps.ts";

/** Milliseconds within which a file that cannot be read is taken for one that is being written. */
export const writingTime = 3000;

/** The file to chain to, or one that calls us already. */
export type RuntimeTarget =
  | Target
  /** A list whose plugins, ours among them, come from the folder beside it: nothing is to be done. */
  | { readonly kind: "called"; readonly file: ConfFile };

/** Chooses the file to chain to. */
export function targetOf(settings: Settings, seen: Observed): RuntimeTarget {
  const target = settings.confName !== ""
    ? chooseTarget(seen.files, settings.confName)
    : foundTarget(settings, seen);
  return target.kind === "waiting" && target.unreadable !== undefined
    ? withFolder(seen, target.unreadable) ?? target
    : target;
}

function foundTarget(settings: Settings, seen: Observed): Target {
  const { runtime, dir } = seen.view;
  const foreign = foreignFiles(seen.files);
  const loaded = load(runtime, { ...dir, files: foreign });
  const [first] = loaded.networks;
  if (first !== undefined) {
    const name = delegatedFile(first, settings, seen);
    if (name !== undefined) return chooseTarget(seen.files, name);
  }
  // Multus does not decide by validity, and containerd takes the first file.
  if (runtime.kind !== "cri-o") return chooseTarget(seen.files, "");

  const torn = loaded.skipped.map(({ file }) => seen.files.find(({ name }) => name === file)!)
    .find((file) =>
      (first === undefined || file.name < first.file) &&
      classifyAmong(seen.files, file).kind === "broken" &&
      (first === undefined || seen.at - file.status.modified < writingTime)
    );
  if (torn !== undefined) return chooseTarget(seen.files, torn.name);
  if (first === undefined) {
    return { kind: "waiting", for: `a network that CRI-O can use: ${reasonsOf(loaded)}` };
  }
  if (!isMeta(seen.files, first.file)) return chooseTarget(seen.files, first.file);
  const behind = load(
    { ...runtime, defaultNetwork: "" },
    { ...dir, files: foreign.filter(({ name }) => !isMeta(seen.files, name)) },
  ).networks[0];
  return behind === undefined
    ? chooseTarget(seen.files, "")
    : chooseTarget(seen.files, behind.file);
}

/**
 * The net dir's files but ours, as they are without our entry, which can be what makes CRI-O pass
 * over one; a list that the reference installer wrote is read as put right.
 */
function foreignFiles(files: readonly ConfFile[]): ConfFile[] {
  return files.flatMap((file) => {
    const is = classifyAmong(files, file);
    if (is.kind === "own" || is.kind === "derived") return [];
    if (is.kind === "reference-list") return [{ name: file.name, text: is.repaired }];
    if (is.kind !== "list" || !is.types.includes(pluginType)) return [file];
    return [{ name: file.name, text: unchain(listOf(jsonOf(file))) }];
  });
}

function isMeta(files: readonly ConfFile[], name: string): boolean {
  return isMetaPlugin(classifyAmong(files, files.find((file) => file.name === name)!));
}

/** The file of another plugin that a Multus in front names. */
function delegatedFile(first: Network, settings: Settings, seen: Observed): string | undefined {
  const multus = multusIn(first.plugins);
  const delegate = multus && delegateOf(multus, settings.netDir, seen.files);
  if (delegate?.kind !== "file") return undefined;
  const single = seen.files.find(({ name }) => derivedNameOf(name) === delegate.name);
  return single?.name ?? delegate.name;
}

function reasonsOf(loaded: ReturnType<typeof load>): string {
  const reasons = loaded.skipped.map(({ file, reason }) => `"${file}": ${reason}`);
  return [loaded.problem ?? "", ...reasons].filter((text) => text !== "").join("; ");
}

/** A list without plugins of its own takes them from a folder, into which nothing is written here. */
function withFolder(seen: Observed, name: string): RuntimeTarget | undefined {
  const file = seen.files.find((file) => file.name === name)!;
  const network = networkOf(seen, file);
  if (network === undefined || !network.usesFolder) return undefined;
  const problem = problemOfCalled(network);
  if (problem === undefined) return { kind: "called", file };
  return { kind: "waiting", for: `our entry among the plugins of "${name}": ${problem}` };
}

/** Nobody but the administrator writes that entry, so it can lack what the plugin needs. */
function problemOfCalled(network: Network): string | undefined {
  const entry = network.plugins.find((plugin) => stringFieldOf(plugin, "type") === pluginType);
  const place = `the folder "${network.name}"`;
  if (entry === undefined) {
    return `they come from ${place} (loadOnlyInlinedPlugins is not true), so give the list the ` +
      "key 'plugins', or put a file with our entry there";
  }
  try {
    const { kubeconfig, agentSocket } = readPluginSettings(valueOf(entry)).settings;
    return kubeconfig !== undefined || agentSocket !== undefined
      ? undefined
      : `the one in ${place} has no "kubernetes.kubeconfig", so it could look up no pod`;
  } catch (error) {
    if (error instanceof CniError) {
      return `the plugin refuses the one in ${place}: ${error.message}`;
    }
    throw error;
  }
}

/** Returns why a file must not be chained to, if so: what must be there first. */
export function refusalOf(seen: Observed, file: ConfFile): string | undefined {
  const network = networkOf(seen, file);
  const version = network && unknownVersionOf(network);
  if (version !== undefined) {
    return `a version in "${file.name}" that the plugin speaks (${
      supportedVersions().join(", ")
    }), ` +
      `not cniVersion "${version}"`;
  }
  const { runtime } = seen.view;
  if (!file.name.endsWith(".conflist") && loadsSeveralFiles(runtime)) {
    return `a list in place of the single plugin "${file.name}": containerd loads several files ` +
      `(max_conf_num is ${runtime.maxConfNum} in ${runtime.basis}), so a list beside it would be ` +
      "a second network of each pod; set max_conf_num to 1, or make it a .conflist";
  }
  return undefined;
}

function networkOf(seen: Observed, file: ConfFile): Network | undefined {
  try {
    return readNetwork(file, seen.view.dir);
  } catch (error) {
    if (error instanceof JsonError) return undefined;
    throw error;
  }
}

/** Returns what keeps pods from being captured once the steps are done. */
export function obstacleAfter(
  settings: Settings,
  seen: Observed,
  steps: readonly Step[],
  chained: string,
): string | undefined {
  const { runtime, dir, wrongNetDir, wrongBinDir } = seen.view;
  if (wrongBinDir !== undefined) return wrongBinDir;
  if (settings.confNameIsLoaded) return undefined;
  if (wrongNetDir !== undefined) return wrongNetDir;
  const files = new Map<string, ConfFile>(seen.files.map((file) => [file.name, file]));
  for (const step of steps) {
    if (step.kind === "remove") files.delete(step.name);
    if (step.kind === "write") {
      files.set(step.name, { name: step.name, text: byteString(step.content) });
    }
  }
  const sorted = [...files.values()].sort((a, b) => a.name < b.name ? -1 : 1);
  return obstacleOf(runtime, { ...dir, files: sorted }, chained, settings.netDir);
}
