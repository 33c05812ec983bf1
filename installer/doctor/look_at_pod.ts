/** Looks at one pod for the doctor. */
import { isRecord } from "../../src/json/record.ts";
import { ApiError } from "../../src/kubernetes/errors.ts";
import { parsePod } from "../../src/kubernetes/pod.ts";
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { Operations } from "../host/operations.ts";
import { confNames, readNetFiles } from "../host/observe.ts";
import type { Settings } from "../settings/declarations.ts";
import type { Look } from "../ledger/look.ts";
import { sandboxLooker } from "../ledger/look_by_hand.ts";
import { evidenceOf, readSandboxes, unreadText } from "./evidence.ts";
import { giveUp, openAccess } from "./look_at_cluster.ts";
import { lookAtEntries } from "./look_at_host.ts";
import type { PodLifeSeen } from "./pod.ts";
import { type Impossible, impossible, isImpossible } from "./seen.ts";

/** Looks at one pod, through the plugin's account and this node's files. */
export async function lookAtPod(
  operations: Operations,
  settings: Settings,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): Promise<PodLifeSeen> {
  const access = openAccess(settings);
  const { names = [] } = confNames(operations, settings) ?? {};
  const files = readNetFiles(operations, settings, names);
  const about = {
    namespace,
    name,
    settings,
    entry: lookAtEntries(files)[0],
  };
  if (isImpossible(access)) {
    const nothing = { pod: undefined, sandboxProblem: undefined, evidence: undefined };
    return { ...about, ...nothing, rules: undefined, object: access, namespaceLabels: access };
  }
  using _access = access;
  const { client } = access;
  const place = `/api/v1/namespaces/${encodeURIComponent(namespace)}`;
  const [object, namespaceLabels, sandboxProblem] = await Promise.all([
    get(client, `${place}/pods/${encodeURIComponent(name)}`, `pod "${namespace}/${name}"`),
    labelsOf(client, place),
    problemIn(client, place, name),
  ]);
  const pod = object === undefined || isImpossible(object) ? undefined : parsePod(object);
  const sandboxes = readSandboxes(operations, settings, `${namespace}/${name}`);
  const known = isImpossible(sandboxes) ? sandboxes : pod && evidenceOf(sandboxes, pod);
  const evidence = known === undefined && !isImpossible(sandboxes) && sandboxes.unread > 0
    ? { impossible: unreadText(sandboxes) }
    : known;
  const entry = isImpossible(evidence) ? undefined : evidence?.entry;
  const rules = entry && await rulesOf(settings, entry);
  return { ...about, object, pod, namespaceLabels, sandboxProblem, evidence, rules };
}

/** Compares its rules with the ledger's, which takes the right to enter its namespace. */
async function rulesOf(settings: Settings, entry: LedgerEntry): Promise<Look | undefined> {
  if (entry.outcome.result !== "redirected") return undefined;
  return (await sandboxLooker(settings, [entry]))(entry);
}

/** Gets an object; `undefined`: there is none. */
async function get(
  client: KubernetesClient,
  path: string,
  what: string,
): Promise<Record<string, unknown> | undefined | Impossible> {
  try {
    return await client.getJson(path, { what, signal: AbortSignal.timeout(giveUp) });
  } catch (error) {
    return error instanceof ApiError && error.status === 404 ? undefined : impossible(error);
  }
}

/** The plugin's account needs no right to namespaces, so this often stays unknown. */
async function labelsOf(
  client: KubernetesClient,
  path: string,
): Promise<Record<string, unknown> | Impossible> {
  const object = await get(client, path, "namespace");
  if (isImpossible(object)) return object;
  const metadata = isRecord(object?.metadata) ? object.metadata : {};
  return isRecord(metadata.labels) ? metadata.labels : {};
}

/** What kubelet last said about its sandbox, where the account may read events. */
async function problemIn(
  client: KubernetesClient,
  place: string,
  name: string,
): Promise<string | undefined> {
  const query = new URLSearchParams({
    fieldSelector: `involvedObject.name=${name},reason=FailedCreatePodSandBox`,
    limit: "50",
  });
  const list = await get(client, `${place}/events?${query}`, "events of the pod");
  const items = isRecord(list) && Array.isArray(list.items) ? list.items : [];
  const messages = items.filter((item) =>
    isRecord(item) && isRecord(item.involvedObject) && item.involvedObject.name === name &&
    item.reason === "FailedCreatePodSandBox" && typeof item.message === "string"
  ).map((item) => String(item.message).slice(0, 1000));
  return messages.at(-1);
}
