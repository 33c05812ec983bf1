/**
 * The agent's memory of what other programs have done to the configuration that carries our entry:
 * who wrote it last, and when. It lies beside the journal and goes with it.
 */
import { isRecord } from "../../src/json/record.ts";
import { writeTemporary } from "./host_files.ts";
import { type ConfFile, jsonOf } from "../conflist/conf_file.ts";
import { fieldOf, stringFieldOf } from "../conflist/json_edit.ts";
import type { Operations } from "./operations.ts";
import { ownGid, ownUid } from "./owner.ts";

/** One write of another program that had to be answered. */
export interface Change {
  /** When it was answered, in milliseconds since the epoch. */
  readonly at: number;
  /** Name of the file in the net dir. */
  readonly file: string;
  /** What was wrong afterwards, as a step's cause. */
  readonly cause: string;
  /** When the other program wrote it, by the file's own time; `undefined`: it took the file away. */
  readonly written?: number;
  /** The file's owner then. */
  readonly uid?: number;
  /** Types of the plugins that it put there. */
  readonly types?: readonly string[];
}

/** How many changes are kept. */
export const mostChanges = 50;

/** Bounds of what is read back. */
const longestText = 256;
const mostTypes = 16;

/** Returns where the memory lies. */
function changesPath(stateDir: string): string {
  return `${stateDir}/changes.json`;
}

/** Reads the memory, the oldest change first; what is damaged in it is left out. */
export function readChanges(operations: Operations, stateDir: string): Change[] {
  try {
    const bytes = operations.read(changesPath(stateDir));
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes ?? new Uint8Array()));
    const list = isRecord(value) && value.version === 1 ? value.changes : undefined;
    return Array.isArray(list) ? list.flatMap(parsed).slice(-mostChanges) : [];
  } catch {
    return [];
  }
}

/** Writes the memory into our own folder, which must be there. */
export function writeChanges(
  operations: Operations,
  stateDir: string,
  changes: readonly Change[],
): void {
  const path = changesPath(stateDir);
  const text = JSON.stringify({ version: 1, changes: changes.slice(-mostChanges) }) + "\n";
  const owner = { mode: 0o600, uid: ownUid(), gid: ownGid() };
  operations.rename(
    writeTemporary(operations, path, new TextEncoder().encode(text), owner),
    path,
  );
}

function parsed(value: unknown): Change[] {
  if (!isRecord(value)) return [];
  const { at, file, cause, written, uid, types } = value;
  const isTime = (time: unknown): time is number =>
    typeof time === "number" && time >= 0 && time <= 8.64e15;
  const isText = (text: unknown): text is string =>
    typeof text === "string" && text.length <= longestText;
  if (!isTime(at) || !isText(file) || !isText(cause)) return [];
  return [{
    at,
    file,
    cause,
    ...(isTime(written) ? { written } : {}),
    ...(typeof uid === "number" ? { uid } : {}),
    ...(Array.isArray(types) ? { types: types.filter(isText).slice(0, mostTypes) } : {}),
  }];
}

/** Returns the types of the plugins in a file, in order; none when it cannot be read. */
export function pluginTypesIn(file: ConfFile): string[] {
  try {
    const { root } = jsonOf(file);
    const list = fieldOf(root, "plugins");
    const plugins = list?.kind === "array" ? list.items : [root];
    return plugins.map((plugin) => stringFieldOf(plugin, "type") ?? "")
      .map((type) => type.slice(0, longestText)).slice(0, mostTypes);
  } catch {
    return [];
  }
}

/** What writes the list of a plugin, as people know it. */
const writers: Readonly<Record<string, string>> = {
  "calico": "Calico (calico-node)",
  "cilium-cni": "Cilium (cilium-agent)",
  "aws-cni": "the VPC CNI (aws-node)",
  "azure-vnet": "Azure CNI (azure-cns)",
  "azure-ipam": "Azure CNI (azure-cns)",
  "flannel": "flannel, or k3s itself",
  "ptp": "kindnet, or netd of GKE",
  "gke": "netd of GKE",
  "ovn-k8s-cni-overlay": "OVN-Kubernetes (ovnkube-node)",
  "openshift-sdn": "OpenShift SDN",
  "multus": "Multus",
  "multus-shim": "Multus",
  "antrea": "Antrea (antrea-agent)",
  "weave-net": "Weave Net",
  "bridge": "minikube, kube-router, or the container runtime",
};

/** Tells who writes a list of these plugins, as far as that can be told from it. */
export function likelyWriter(types: readonly string[] | undefined): string | undefined {
  return types?.map((type) => Object.hasOwn(writers, type) ? writers[type] : undefined)
    .find((writer) => writer !== undefined);
}
