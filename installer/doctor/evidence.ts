/**
 * What on the node tells whether a running pod got its rules: the ledger, in which the plugin notes what
 * it did, else the chain that the pod was started with, in libcni's cache.
 */
import { isRecord, own } from "../../src/json/record.ts";
import type { Pod } from "../../src/kubernetes/pod.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import { readEntries } from "../../src/ledger/folder.ts";
import { byteString } from "../conflist/json_edit.ts";
import { cacheDirOf } from "../host/namers.ts";
import type { Operations } from "../host/operations.ts";
import { lastEntryAbout } from "../ledger/early_decision.ts";
import { mentionOf } from "../runtime/mentions.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { type Impossible, impossible } from "./seen.ts";

/** What is known of a pod's sandbox. */
export interface Evidence {
  readonly captured: boolean;
  /** In words, how that is known. */
  readonly reason: string;
  /** What the plugin noted of it. */
  readonly entry?: LedgerEntry;
}

/** What the node keeps of all sandboxes. */
export interface Sandboxes {
  /** What the plugin noted. */
  readonly entries: readonly LedgerEntry[];
  /** Whether the chain of a pod that is not in the ledger has the plugin, by `namespace/name`. */
  readonly chains: ReadonlyMap<string, boolean>;
  /** How many of the runtime's results there was no time for. */
  readonly unread: number;
}

/** Bound of one result in bytes, and milliseconds for reading them all. */
const sizeLimit = 256 * 1024;
const patience = 400;

/**
 * Reads the ledger and, for pods that are not in it, libcni's cache. Facts: libcni 1.3 `api.go`,
 * `cachedInfo`, kind `cniCacheV1`.
 *
 * @param only The one pod whose result is wanted, as `namespace/name`.
 */
export function readSandboxes(
  operations: Operations,
  settings: Settings,
  only?: string,
): Sandboxes | Impossible {
  const cache = cacheDirOf(settings);
  const folders = [`${cache}/results`, `${cache}/cache/results`]
    .filter((folder) => operations.targetStatus(folder)?.kind === "directory");
  let entries: readonly LedgerEntry[];
  try {
    entries = readEntries(pathsOf(settings).stateDir).entries;
  } catch (error) {
    return impossible(error);
  }
  if (folders.length === 0 && entries.length === 0) {
    return {
      impossible:
        `"${cache}" with the runtime's results is not mounted here, and the ledger is empty`,
    };
  }
  const noted = new Set<unknown>(entries.map(({ sandbox }) => sandbox));
  const chains = new Map<string, boolean>();
  const deadline = performance.now() + patience;
  let unread = 0;
  for (const folder of folders) {
    for (const name of operations.list(folder) ?? []) {
      if (performance.now() > deadline) {
        unread++;
        continue;
      }
      const result = resultOf(operations, `${folder}/${name}`, only);
      // A name can be used again: what the ledger knows of an earlier pod is told by its UID.
      if (result === undefined || noted.has(result.sandbox)) continue;
      // A pod behind Multus has several results; one with our entry is enough.
      chains.set(result.pod, result.captured || chains.get(result.pod) === true);
    }
  }
  return { entries, chains, unread };
}

/** Returns what is known of a pod, if it is about this one and not an earlier one of that name. */
export function evidenceOf(
  { entries, chains }: Pick<Sandboxes, "entries" | "chains">,
  pod: Pod,
): Evidence | undefined {
  const entry = lastEntryAbout(entries, { pod });
  if (entry !== undefined) return ofLedger(entry);
  const captured = chains.get(`${pod.namespace}/${pod.name}`);
  return captured === undefined ? undefined : {
    captured,
    reason: captured
      ? "the chain that it was started with has the plugin"
      : "the chain that it was started with does not have the plugin",
  };
}

function ofLedger(entry: LedgerEntry): Evidence {
  const { outcome, time } = entry;
  const when = new Date(time).toISOString().replace(/\.\d+Z$/, "Z");
  return {
    captured: outcome.result === "redirected",
    reason: outcome.result === "redirected"
      ? `its rules were installed (${outcome.engine}) at ${when}`
      : `the plugin skipped it at ${when} (${outcome.reason})`,
    entry,
  };
}

/** One attachment as the runtime keeps it. */
interface CachedResult {
  readonly pod: string;
  readonly sandbox: unknown;
  readonly captured: boolean;
}

function resultOf(
  operations: Operations,
  path: string,
  only: string | undefined,
): CachedResult | undefined {
  try {
    const status = operations.targetStatus(path);
    if (status?.kind !== "file" || status.size > sizeLimit) return undefined;
    const bytes = operations.read(path) ?? new Uint8Array();
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (!isRecord(value) || !Array.isArray(own(value, "cniArgs"))) return undefined;
    const args = new Map(
      (value.cniArgs as unknown[]).filter((pair) => Array.isArray(pair)) as [string, string][],
    );
    const [namespace, pod] = [args.get("K8S_POD_NAMESPACE"), args.get("K8S_POD_NAME")];
    if (!namespace || !pod) return undefined;
    const named = `${namespace}/${pod}`;
    // Looking for the plugin in it is what takes time.
    if (only !== undefined && named !== only) return undefined;
    return {
      pod: named,
      sandbox: own(value, "containerId"),
      captured: mentionOf(byteString(bytes)) !== undefined,
    };
  } catch {
    // A result that cannot be read tells nothing.
    return undefined;
  }
}

/** Says that not all of the runtime's results were read, which anything may stand in. */
export function unreadText({ unread }: Sandboxes): string {
  return `there was no time for ${unread} of the runtime's results`;
}
