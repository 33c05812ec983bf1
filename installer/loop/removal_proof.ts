/**
 * Finds out whether a stopping agent is being replaced or removed for good. Without proof of removal
 * it counts as replaced: pods must keep starting while a DaemonSet rolls.
 */
import { isRecord, recordsOf } from "../../src/json/record.ts";
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import { ApiError } from "../../src/kubernetes/errors.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { clientOf, type OwnPod, ownPod, readOwnPod } from "../cluster/own_pod.ts";
import type { Settings } from "../settings/declarations.ts";

/** What the cluster says about this program's own DaemonSet. */
export type RemovalProof =
  | { readonly kind: "removed"; readonly reason: string }
  | { readonly kind: "staying"; readonly reason: string }
  | { readonly kind: "unknown"; readonly reason: string };

/**
 * Asks the API server about this program's DaemonSet.
 *
 * Proof of removal is a DaemonSet that is gone or has a deletion timestamp. The reference manifest's
 * account may read pods only; there the administrator can let it count as proof that its own pod,
 * which it could read before, is refused to it now, twice: the account or its rights were removed
 * together with the DaemonSet. By default it does not, since rights that are lost by mistake would
 * take the plugin off every node that is restarted then, and pods would start without their rules.
 *
 * @param couldReadPod Whether the same account has read its own pod before.
 * @param timeout Milliseconds for everything.
 */
export async function proveRemoval(
  settings: Settings,
  couldReadPod: boolean,
  timeout: number,
): Promise<RemovalProof> {
  const pod = ownPod(settings);
  if (pod === undefined) return { kind: "unknown", reason: "not running as a pod" };
  const signal = AbortSignal.timeout(timeout);
  try {
    using client = clientOf(settings, timeout);
    const owner = await readOwner(client, pod, signal);
    if (owner === undefined) {
      return { kind: "unknown", reason: `no DaemonSet owns the pod "${pod.name}"` };
    }
    const what = `DaemonSet "${pod.namespace}/${owner.name}"`;
    const path = `/apis/apps/v1/namespaces/${encodeURIComponent(pod.namespace)}/daemonsets/${
      encodeURIComponent(owner.name)
    }`;
    try {
      const found = (await client.getJson(path, { signal, what })).metadata;
      const metadata = isRecord(found) ? found : {};
      if (metadata.deletionTimestamp !== undefined) {
        return { kind: "removed", reason: `the ${what} is being deleted` };
      }
      if (metadata.uid !== owner.uid) {
        return { kind: "staying", reason: `the ${what} was created anew` };
      }
      return { kind: "staying", reason: `the ${what} is there` };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 404) return { kind: "removed", reason: `the ${what} is gone` };
      return { kind: "unknown", reason: error.message };
    }
  } catch (error) {
    const mayCount = settings.uninstallWhenRefused && couldReadPod && isRefusal(error);
    if (mayCount && await isStillRefused(settings, pod, signal)) {
      return {
        kind: "removed",
        reason: "the account that this program runs under was removed, or its rights were",
      };
    }
    return { kind: "unknown", reason: messageOf(error) };
  }
}

/** Milliseconds between two refusals that count as one proof. */
const refusalPause = 500;

function isRefusal(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 401 || error.status === 403);
}

/** An API server that has just started refuses good accounts for a moment. */
async function isStillRefused(
  settings: Settings,
  pod: OwnPod,
  signal: AbortSignal,
): Promise<boolean> {
  await new Promise((resolve) => setTimeout(resolve, refusalPause));
  try {
    // Another connection: behind one address there may be several API servers.
    using client = clientOf(settings, refusalPause * 2);
    await readOwner(client, pod, signal);
    return false;
  } catch (error) {
    return isRefusal(error);
  }
}

/** Tells whether this program's account can read its own pod now. */
export async function canReadOwnPod(settings: Settings, signal: AbortSignal): Promise<boolean> {
  const pod = ownPod(settings);
  if (pod === undefined) return false;
  try {
    using client = clientOf(settings, 5000);
    await readOwner(client, pod, signal);
    return true;
  } catch {
    return false;
  }
}

async function readOwner(
  client: KubernetesClient,
  pod: OwnPod,
  signal: AbortSignal,
): Promise<{ readonly name: string; readonly uid: unknown } | undefined> {
  const { metadata } = await readOwnPod(client, pod, signal);
  const owners = isRecord(metadata) ? metadata.ownerReferences : undefined;
  for (const owner of recordsOf(owners)) {
    if (owner.kind === "DaemonSet" && typeof owner.name === "string") {
      return { name: owner.name, uid: owner.uid };
    }
  }
  return undefined;
}
