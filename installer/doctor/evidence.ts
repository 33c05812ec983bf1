/** What on the node tells whether a running pod got its rules: the chain of its birth, in libcni's cache. */
import { isRecord, own } from "../../src/json/record.ts";
import { byteString } from "../conflist/json_edit.ts";
import { cacheDirOf } from "../host/namers.ts";
import type { Operations } from "../host/operations.ts";
import { mentionOf } from "../runtime/mentions.ts";
import type { Settings } from "../settings/declarations.ts";
import type { Impossible } from "./seen.ts";

/** What is known of a pod's sandbox. */
export interface Evidence {
  readonly captured: boolean;
  /** In words, how that is known. */
  readonly reason: string;
}

/** Evidence by `namespace/name`. */
export type EvidenceByPod = ReadonlyMap<string, Evidence>;

/** Most results that are read, and their bound in bytes. */
const mostResults = 1000;
const sizeLimit = 256 * 1024;

/** Reads libcni's cache. Facts: libcni 1.3 `api.go`, `cachedInfo`, kind `cniCacheV1`. */
export function readEvidence(
  operations: Operations,
  settings: Settings,
): EvidenceByPod | Impossible {
  const cache = cacheDirOf(settings);
  const folders = [`${cache}/results`, `${cache}/cache/results`]
    .filter((folder) => operations.targetStatus(folder)?.kind === "directory");
  if (folders.length === 0) {
    return { impossible: `"${cache}" with the runtime's results is not mounted here` };
  }
  const evidence = new Map<string, Evidence>();
  for (const folder of folders) {
    for (const name of (operations.list(folder) ?? []).slice(0, mostResults)) {
      const result = resultOf(operations, `${folder}/${name}`);
      if (result === undefined) continue;
      // A pod behind Multus has several results; one with our entry is enough.
      if (evidence.get(result.pod)?.captured) continue;
      evidence.set(result.pod, result.evidence);
    }
  }
  return evidence;
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
