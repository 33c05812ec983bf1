/** Asks the API server and the node agent for the doctor; each question has a bound of its own. */
import { KubernetesClient } from "../../src/kubernetes/client.ts";
import { ConnectionState } from "../../src/kubernetes/connection_state.ts";
import { loadKubeconfig } from "../../src/kubernetes/kubeconfig.ts";
import { parsePod } from "../../src/kubernetes/pod.ts";
import { tokenTimes } from "../../src/kubernetes/token_expiry.ts";
import { isRecord } from "../../src/json/record.ts";
import { decideForPod } from "../../src/pod/decide.ts";
import { decideBeforeLookup } from "../../src/pod/decide_early.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { clientOf, ownPod, probe } from "../cluster/own_pod.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { type EvidenceByPod, evidenceOf } from "./evidence.ts";
import { impossible } from "./look_at_host.ts";
import {
  type AgentSeen,
  type ApiSeen,
  type EntrySeen,
  type Impossible,
  isImpossible,
  type PodSeen,
  type RightSeen,
  slowMilliseconds,
  type TokenSeen,
} from "./seen.ts";
import { within } from "./within.ts";

/** Milliseconds for one question to the API server, and to the agent. */
export const apiPatience = 1000;
const agentPatience = 500;

/** A client that reaches the API server as the plugin does, and how its requests go. */
export interface PluginAccess extends Disposable {
  readonly client: KubernetesClient;
  /** For the one question that a pod's start depends on. */
  readonly prober: KubernetesClient;
  /** How the prober's requests went: what the doctor asks besides says nothing about pods. */
  readonly state: ConnectionState;
  readonly token: TokenSeen | Impossible;
}

/** Opens the way that the plugin takes: its kubeconfig on the host, else the agent's own account. */
export function openAccess(settings: Settings): PluginAccess | Impossible {
  const state = new ConnectionState();
  const opened = (
    clientWith: (state?: ConnectionState) => KubernetesClient,
    token: TokenSeen | Impossible,
  ): PluginAccess => {
    const [client, prober] = [clientWith(), clientWith(state)];
    const close = () => {
      client.close();
      prober.close();
    };
    return { client, prober, state, token, [Symbol.dispose]: close };
  };
  let problem: Impossible;
  try {
    const access = loadKubeconfig(pathsOf(settings).kubeconfig);
    const options = { requestTimeoutMilliseconds: apiPatience };
    const clientWith = (state?: ConnectionState) =>
      new KubernetesClient(access, state === undefined ? options : { ...options, state });
    return opened(clientWith, tokenTimes(access.token ?? ""));
  } catch (error) {
    problem = impossible(error);
  }
  try {
    return opened((state) => clientOf(settings, apiPatience, state), problem);
  } catch {
    return problem;
  }
}

/** Asks the API server for a pod, and for the account's rights, all at once. */
export async function lookAtApi(
  { client, prober, state }: PluginAccess,
  settings: Settings,
): Promise<ApiSeen> {
  const timed = async () => {
    const started = performance.now();
    await probe(prober, settings, AbortSignal.timeout(2 * apiPatience));
    const isAnswered = state.lastSuccess !== undefined || state.problem === undefined;
    return isAnswered ? performance.now() - started : undefined;
  };
  const [rights, first] = await Promise.all([rightsOf(client), timed()]);
  // The first answer has the connection's beginning in it, and the other questions beside it.
  const milliseconds = first !== undefined && first > slowMilliseconds ? await timed() : first;
  return { server: client.server, state, milliseconds, rights };
}

async function rightsOf(client: KubernetesClient): Promise<readonly RightSeen[] | Impossible> {
  const ask = async (verb: RightSeen["verb"]): Promise<RightSeen> => {
    const review = await client.change({
      verb: "create",
      path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
      body: {
        apiVersion: "authorization.k8s.io/v1",
        kind: "SelfSubjectAccessReview",
        spec: { resourceAttributes: { verb, resource: "pods" } },
      },
    }, { what: "review of the account's rights", signal: AbortSignal.timeout(apiPatience) });
    const { status } = review;
    if (!isRecord(status) || typeof status.allowed !== "boolean") {
      throw new Error("The API server does not tell");
    }
    return { verb, allowed: status.allowed };
  };
  try {
    return await Promise.all((["get", "list", "watch"] as const).map(ask));
  } catch (error) {
    return impossible(error);
  }
}

/** Asks the running agent. */
export async function lookAtAgent(settings: Settings): Promise<AgentSeen> {
  const [socket, readiness] = await Promise.all([socketAnswer(settings), readinessOf(settings)]);
  return { socket, readiness };
}

async function socketAnswer(settings: Settings): Promise<true | string> {
  const path = `${pathsOf(settings).stateDir}/agent.sock`;
  try {
    const connection = await within(agentPatience, Deno.connect({ transport: "unix", path }));
    connection.close();
    return true;
  } catch (error) {
    return error instanceof Deno.errors.NotFound ? `"${path}" is missing` : messageOf(error);
  }
}

async function readinessOf({ healthPort, healthAddress }: Settings): Promise<
  AgentSeen["readiness"]
> {
  if (healthPort === 0) return { impossible: "it serves no health port (HEALTH_PORT)" };
  const host = healthAddress === "0.0.0.0" || healthAddress === "::" ? "127.0.0.1" : healthAddress;
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${healthPort}/readyz`;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(agentPatience) });
    const reason = (await response.text()).trim().slice(0, 1000);
    return { ready: response.status === 200, reason };
  } catch (error) {
    // By hand on the node the agent's pod has an address of its own.
    return { impossible: `nothing answers at ${url}: ${messageOf(error)}` };
  }
}

/** Most pods of one node that are looked at. */
const mostPods = 1000;

/** Asks which pods run on this node, and judges each. */
export async function lookAtPods(
  { client }: PluginAccess,
  settings: Settings,
  entries: readonly EntrySeen[],
  evidence: EvidenceByPod | Impossible,
): Promise<readonly PodSeen[] | Impossible> {
  try {
    const node = await nodeOf(client, settings);
    if (node === undefined) return { impossible: "the node's name is not known; set NODE_NAME" };
    const query = new URLSearchParams({
      fieldSelector: `spec.nodeName=${node}`,
      limit: `${mostPods}`,
    });
    const list = await client.getJson(`/api/v1/pods?${query}`, {
      what: "this node's pods",
      verb: "list",
      signal: AbortSignal.timeout(apiPatience),
      maximumBytes: 32 << 20,
    });
    const items = Array.isArray(list.items) ? list.items : [];
    return items.flatMap((item) => podSeen(item, node, entries[0], evidence) ?? []);
  } catch (error) {
    return impossible(error);
  }
}

async function nodeOf(client: KubernetesClient, settings: Settings): Promise<string | undefined> {
  if (settings.nodeName !== "") return settings.nodeName;
  const pod = ownPod(settings);
  if (pod === undefined) return undefined;
  const path = `/api/v1/namespaces/${pod.namespace}/pods/${pod.name}`;
  const { spec } = await client.getJson(path, { signal: AbortSignal.timeout(apiPatience) });
  const name = isRecord(spec) ? spec.nodeName : undefined;
  return typeof name === "string" && name !== "" ? name : undefined;
}

function podSeen(
  item: unknown,
  node: string,
  entry: EntrySeen | undefined,
  evidence: EvidenceByPod | Impossible,
): PodSeen | undefined {
  if (!isRecord(item) || !isRecord(item.spec) || item.spec.nodeName !== node) return undefined;
  // What has ended has no sandbox any more.
  const phase = isRecord(item.status) ? item.status.phase : undefined;
  if (phase === "Succeeded" || phase === "Failed") return undefined;
  const pod = parsePod({ kind: "Pod", apiVersion: "v1", ...item });
  const { namespace, name, uid } = pod;
  const identity = { namespace, name, uid };
  if (item.spec.hostNetwork === true) {
    return {
      ...identity,
      meshed: false,
      captured: undefined,
      reason: "it is in the host's network",
    };
  }
  const settings = entry?.settings;
  const early = decideBeforeLookup(
    { podNamespace: namespace, podName: name },
    settings?.excludeNamespaces ?? [],
    settings?.includeNamespaces ?? [],
  );
  const decision = early ?? decisionOf(pod, settings?.allowPodSettings ?? []);
  if (decision.kind === "skip") {
    return { ...identity, meshed: false, captured: undefined, reason: decision.reason };
  }
  if (isImpossible(evidence)) {
    return { ...identity, meshed: true, captured: undefined, reason: evidence.impossible };
  }
  const known = evidenceOf(evidence, identity);
  return {
    ...identity,
    meshed: true,
    captured: known?.captured,
    reason: known?.reason ?? "the runtime has no result of it",
  };
}

/** A pod whose annotations cannot be followed is meshed and does not start. */
function decisionOf(pod: Parameters<typeof decideForPod>[0], allowed: readonly string[]) {
  try {
    return decideForPod(pod, { allowPodSettings: new Set(allowed), resolvers: [], clusterDns: [] });
  } catch (error) {
    return { kind: "refused", reason: messageOf(error) } as const;
  }
}
