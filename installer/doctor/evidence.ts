/**
 * What on the node tells whether a running pod got its rules: the ledger, in which the plugin notes what
 * it did, else the chain that the pod was started with, in libcni's cache.
 */
import { isRecord, own } from "../../src/json/record.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import { readEntries } from "../../src/ledger/folder.ts";
import { byteString } from "../conflist/json_edit.ts";
import { cacheDirOf } from "../host/namers.ts";
import type { Operations } from "../host/operations.ts";
import { mentionOf } from "../runtime/mentions.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import type { Impossible } from "./seen.ts";

/** What is known of a pod's sandbox. */
export interface Evidence {
  readonly captured: boolean;
  /** In words, how that is known. */
  readonly reason: string;
  /** UID of the pod that it is about, where that is known: a name can be used again. */
  readonly uid?: string;
  /** What the plugin noted of it. */
  readonly entry?: LedgerEntry;
}

/** Evidence by `namespace/name`. */
export type EvidenceByPod = ReadonlyMap<string, Evidence>;

/** Most results that are read, and their bound in bytes. */
const mostResults = 1000;
const sizeLimit = 256 * 1024;

/** Reads the ledger and, for pods that are not in it, libcni's cache. Facts: libcni 1.3 `api.go`, `cachedInfo`, kind `cniCacheV1`. */
export function readEvidence(
  operations: Operations,
  settings: Settings,
): EvidenceByPod | Impossible {
  const cache = cacheDirOf(settings);
  const folders = [`${cache}/results`, `${cache}/cache/results`]
    .filter((folder) => operations.targetStatus(folder)?.kind === "directory");
  const evidence = new Map(
    readEntries(pathsOf(settings).stateDir).entries.map((entry) => [
      `${entry.podNamespace}/${entry.podName}`,
      ofLedger(entry),
    ]),
  );
  if (folders.length === 0 && evidence.size === 0) {
    return {
      impossible:
        `"${cache}" with the runtime's results is not mounted here, and the ledger is empty`,
    };
  }
  for (const folder of folders) {
    for (const name of (operations.list(folder) ?? []).slice(0, mostResults)) {
      const result = resultOf(operations, `${folder}/${name}`);
      if (result === undefined) continue;
      // A pod behind Multus has several results; one with our entry is enough.
      const known = evidence.get(result.pod);
      if (known?.captured || known?.entry !== undefined) continue;
      evidence.set(result.pod, result.evidence);
    }
  }
  return evidence;
}

function ofLedger(entry: LedgerEntry): Evidence {
  const { outcome, podUid, time } = entry;
  const when = new Date(time).toISOString().replace(/\.\d+Z$/, "Z");
  return {
    captured: outcome.result === "redirected",
    reason: outcome.result === "redirected"
      ? `its rules were installed (${outcome.engine}) at ${when}`
      : `the plugin skipped it at ${when} (${outcome.reason})`,
    entry,
    ...(podUid === undefined ? {} : { uid: podUid }),
  };
}

/** Returns what is known of a pod, if it is about this one and not an earlier one of that name. */
export function evidenceOf(
  evidence: EvidenceByPod,
  { namespace, name, uid }: { namespace: string; name: string; uid: string | undefined },
): Evidence | undefined {
  const known = evidence.get(`${namespace}/${name}`);
  const isOther = known?.uid !== undefined && uid !== undefined && known.uid !== uid;
  return isOther ? undefined : known;
}

function resultOf(
  operations: Operations,
  path: string,
): { readonly pod: string; readonly evidence: Evidence } | undefined {
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
    const captured = mentionOf(byteString(bytes)) !== undefined;
    return {
      pod: `${namespace}/${pod}`,
      evidence: {
        captured,
        reason: captured
          ? "the chain that it was started with has the plugin"
          : "the chain that it was started with does not have the plugin",
      },
    };
  } catch {
    // A result that cannot be read tells nothing.
    return undefined;
  }
}
