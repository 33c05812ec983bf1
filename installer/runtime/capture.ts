/** Whether a pod that the runtime starts now gets to our plugin, exactly once. Pure. */
import { pluginType } from "../conflist/conflist.ts";
import { JsonError } from "../conflist/json_edit.ts";
import { load, type Loaded } from "./load.ts";
import { delegateOf, multusIn } from "./multus.ts";
import { type NetDir, type Network, readNetwork } from "./network.ts";
import { nameOf, type Runtime } from "./runtime.ts";

/** What keeps pods from being captured, or `undefined`. */
export type Obstacle = string | undefined;

/**
 * Tells what keeps the pods that start now from being captured.
 *
 * @param chained The file that carries our entry.
 * @param netDir Path of the net dir on the host.
 */
export function obstacleOf(
  runtime: Runtime,
  dir: NetDir,
  chained: string,
  netDir: string,
): Obstacle {
  const known = runtime.kind === "multus" ? multusFirst(dir, chained) : load(runtime, dir);
  if (known.problem !== undefined) return `${known.problem}, so pods are not captured`;
  const [first] = known.networks;
  let calls = 0;
  for (const network of known.networks) {
    const called = callsThrough(network, dir, netDir);
    if (typeof called === "string") {
      if (network !== first) continue;
      return `"${network.file}" comes first, and ${called}`;
    }
    if (network === first && !called.types.includes(pluginType)) {
      return notCalled(runtime, network, called, chained, known.skipped);
    }
    calls += called.types.filter((type) => type === pluginType).length;
  }
  return calls <= 1
    ? undefined
    : `${nameOf(runtime)} calls the plugin ${calls} times for each pod, through ${
      known.networks.map(({ file }) => `"${file}"`).join(", ")
    }; leave its entry in one of them`;
}

/** Multus in front was declared: its own file need not be here, then it calls the chained one. */
function multusFirst(
  dir: NetDir,
  chained: string,
): Loaded {
  const networks = dir.files.flatMap((file) => {
    try {
      return [readNetwork(file, dir)];
    } catch (error) {
      if (error instanceof JsonError) return [];
      throw error;
    }
  });
  const front = networks.find(({ plugins }) => multusIn(plugins) !== undefined);
  const own = networks.find(({ file }) => file === chained);
  if (front !== undefined) return { networks: [front], skipped: [] };
  return own === undefined
    ? { networks: [], skipped: [], problem: `Multus cannot read "${chained}"` }
    : { networks: [own], skipped: [] };
}

/** How to give one's word for a file. */
const wordFor = "name the file in CNI_CONF_NAME and set CNI_CONF_NAME_IS_LOADED if it is the one";

/** What is called through a network: its own plugins, or those of the network that Multus calls. */
interface Called {
  readonly types: readonly string[];
  /** Where they stand, when Multus calls them. */
  readonly file?: string;
}

/** @returns The plugins, or in words why they cannot be told. */
function callsThrough(network: Network, dir: NetDir, netDir: string): Called | string {
  if (network.types[0] === "genie") {
    return `what CNI-Genie calls is up to its own settings and to pods; ${wordFor}`;
  }
  const multus = multusIn(network.plugins);
  if (multus === undefined) return { types: network.types };
  const delegate = delegateOf(multus, netDir, dir.files);
  switch (delegate.kind) {
    case "unknown":
      return `${delegate.reason}, so what Multus calls is not known; ${wordFor}`;
    case "embedded":
      return delegate;
    case "file":
      try {
        const { types } = readNetwork(dir.files.find(({ name }) => name === delegate.name)!, dir);
        return { types, file: delegate.name };
      } catch (error) {
        if (error instanceof JsonError) {
          return `Multus cannot read "${delegate.name}": ${error.message}`;
        }
        throw error;
      }
  }
}

function notCalled(
  runtime: Runtime,
  network: Network,
  called: Called,
  chained: string,
  skipped: readonly { readonly file: string; readonly reason: string }[],
): string {
  if (multusIn(network.plugins) !== undefined) {
    return called.file === undefined
      ? `"${network.file}" of Multus has a copy of another configuration in 'delegates', without ` +
        `our entry, so pods are not captured; let Multus make it anew from "${chained}", or set ` +
        "its 'clusterNetwork' to that file"
      : `"${network.file}" of Multus calls "${called.file}" (clusterNetwork), not "${chained}", ` +
        "so pods are not captured; let it name that one";
  }
  const reason = skipped.find(({ file }) => file === chained)?.reason;
  if (runtime.kind === "cri-o") {
    const why = reason === undefined
      ? runtime.defaultNetwork === "" ? "" : ` (cni_default_network is "${network.name}")`
      : `, and passes over "${chained}": ${reason}`;
    return `CRI-O uses "${network.file}"${why}, so pods are not captured` +
      (reason === undefined ? `; ${advice(network.file)}` : "");
  }
  if (network.file === chained) return `"${chained}" does not call the plugin`;
  return `The runtime loads "${network.file}" before "${chained}", so pods are not captured; ` +
    advice(network.file);
}

function advice(file: string): string {
  return `set CNI_CONF_NAME to "${file}", or leave it empty`;
}
