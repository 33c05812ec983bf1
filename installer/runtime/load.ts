/**
 * Which networks a runtime makes of the net dir's files. Pure.
 *
 * Facts: containerd's go-cni 1.1.13 (`loadFromConfDir`) and CRI-O's ocicni 0.4.3 (`loadNetworks`),
 * both seen running; files in the order of their bytes.
 */
import { pluginType } from "../conflist/conflist.ts";
import { JsonError } from "../conflist/json_edit.ts";
import { type NetDir, type Network, readNetwork, unknownVersionOf } from "./network.ts";
import { nameOf, type Runtime } from "./runtime.ts";

/** What a runtime has loaded. */
export interface Loaded {
  /** Networks that each pod gets, `eth0` first. */
  readonly networks: readonly Network[];
  /** Files that it passes over, with the reason. */
  readonly skipped: readonly { readonly file: string; readonly reason: string }[];
  /** Why it has loaded nothing at all. */
  readonly problem?: string;
}

/** Loads the net dir's files as the runtime does. */
export function load(runtime: Runtime, dir: NetDir): Loaded {
  return runtime.kind === "cri-o" ? loadForCrio(runtime, dir) : loadForContainerd(runtime, dir);
}

/** One file that cannot be read makes the whole load fail; the last good state stays in force. */
function loadForContainerd(runtime: Runtime, dir: NetDir): Loaded {
  const networks: Network[] = [];
  for (const file of dir.files) {
    const network = readOrReason(file, dir);
    if (typeof network === "string") {
      return {
        networks: [],
        skipped: [],
        problem: `${nameOf(runtime)} loads no file at all, since it cannot read "${file.name}": ` +
          network,
      };
    }
    networks.push(network);
    if (networks.length === runtime.maxConfNum) break;
  }
  return { networks, skipped: [], ...(networks.length === 0 ? nothing(runtime) : {}) };
}

/** A file that cannot be read or called is passed over; a name that stands twice counts once. */
function loadForCrio(runtime: Runtime, dir: NetDir): Loaded {
  const byName = new Map<string, Network>();
  const skipped: { file: string; reason: string }[] = [];
  for (const file of dir.files) {
    const network = readOrReason(file, dir);
    const reason = typeof network === "string" ? network : invalidityOf(network, dir);
    if (typeof network === "string" || reason !== undefined) {
      skipped.push({ file: file.name, reason: reason ?? "" });
      continue;
    }
    const name = network.name || file.name;
    if (!byName.has(name)) byName.set(name, network);
    else skipped.push({ file: file.name, reason: `There is another network "${name}"` });
  }
  const { defaultNetwork } = runtime;
  const chosen = defaultNetwork === "" ? [...byName.values()][0] : byName.get(defaultNetwork);
  if (chosen !== undefined) return { networks: [chosen], skipped };
  if (defaultNetwork === "") return { networks: [], skipped, ...nothing(runtime) };
  return {
    networks: [],
    skipped,
    problem:
      `CRI-O uses the network "${defaultNetwork}" (cni_default_network), and no usable file ` +
      "has that name",
  };
}

/** CRI-O starts each plugin once with VERSION; only ours can be told here what it would answer. */
function invalidityOf(network: Network, dir: NetDir): string | undefined {
  const missing = network.types.find((type) => !dir.hasProgram(type));
  if (missing !== undefined) return `The program of its plugin "${missing}" is missing`;
  if (!network.types.includes(pluginType)) return undefined;
  const version = unknownVersionOf(network);
  return version === undefined ? undefined : `Its version "${version}" is not known to our plugin`;
}

function readOrReason(file: NetDir["files"][number], dir: NetDir): Network | string {
  try {
    return readNetwork(file, dir);
  } catch (error) {
    if (error instanceof JsonError) return error.message;
    throw error;
  }
}

function nothing(runtime: Runtime): { readonly problem: string } {
  return { problem: `${nameOf(runtime)} finds no network configuration` };
}
