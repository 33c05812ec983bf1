/** Asks the API server and the node agent for the doctor; each question has a bound of its own. */
import { KubernetesClient } from "../../src/kubernetes/client.ts";
import { ConnectionState } from "../../src/kubernetes/connection_state.ts";
import { loadKubeconfig } from "../../src/kubernetes/kubeconfig.ts";
import { tokenTimes } from "../../src/kubernetes/token_expiry.ts";
import { isRecord } from "../../src/json/record.ts";
import type { Skip } from "../../src/pod/decision.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { clientOf, nodeName, probe } from "../cluster/own_pod.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { decideNow, type NodeDecidingSettings, unsetSettings } from "../ledger/decision_now.ts";
import { listNodePods } from "../ledger/node_pods.ts";
import type { NodePod } from "../ledger/pod_life.ts";
import { evidenceOf, type Sandboxes, unreadText } from "./evidence.ts";
import {
  type AgentSeen,
  type ApiSeen,
  type EntrySeen,
  type Impossible,
  impossible,
  isImpossible,
  type PodSeen,
  type RightSeen,
  slowMilliseconds,
  type TokenSeen,
} from "./seen.ts";
import { within } from "./within.ts";

/** Milliseconds for one question to the API server, and to the agent. */
const apiPatience = 1000;
/** Later than the client does itself, which says of what it gave up, and notes it as trouble. */
export const giveUp = 2 * apiPatience;
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
  const timed = async (by: KubernetesClient, patience: number) => {
    const started = performance.now();
    await probe(by, settings, AbortSignal.timeout(patience));
    return performance.now() - started;
  };
  const [rights, first] = await Promise.all([rightsOf(client), timed(prober, giveUp)]);
  const isAnswered = state.lastSuccess !== undefined || state.problem === undefined;
  if (!isAnswered || first <= slowMilliseconds) {
    return { server: client.server, state, milliseconds: isAnswered ? first : undefined, rights };
  }
  // The first answer has the connection's beginning in it, and the other questions beside it: it counts
  // only when a second one is slow, too.
  const second = await timed(client, slowMilliseconds + 1);
  const milliseconds = second > slowMilliseconds ? first : second;
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
    }, { what: "review of the account's rights", signal: AbortSignal.timeout(giveUp) });
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

/** Where the agent serves what it says about itself. */
export function healthUrl({ healthPort, healthAddress }: Settings, path: string): string {
  const host = healthAddress === "0.0.0.0" || healthAddress === "::" ? "127.0.0.1" : healthAddress;
  return `http://${host.includes(":") ? `[${host}]` : host}:${healthPort}${path}`;
}

async function readinessOf(settings: Settings): Promise<AgentSeen["readiness"]> {
  if (settings.healthPort === 0) return undefined;
  const url = healthUrl(settings, "/readyz");
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(agentPatience) });
    const reason = (await response.text()).trim().slice(0, 1000);
    return { ready: response.status === 200, reason };
  } catch (error) {
    // By hand on the node the agent's pod has an address of its own.
    return { impossible: `nothing answers at ${url}: ${messageOf(error)}` };
  }
}

/** Asks which pods run on this node. */
export async function listPods(
  { client }: PluginAccess,
  settings: Settings,
): Promise<readonly NodePod[] | Impossible> {
  try {
    const signal = AbortSignal.timeout(giveUp);
    const pods = await listNodePods(client, await nodeName(settings, client, signal), signal);
    // What has ended has no sandbox any more.
    return pods.filter(({ life }) => life.isAlive);
  } catch (error) {
    return impossible(error);
  }
}

/** Judges each pod by what the node knows of it. */
export function lookAtPods(
  pods: readonly NodePod[],
  [entry]: readonly EntrySeen[],
  sandboxes: Sandboxes | Impossible,
): readonly PodSeen[] {
  return pods.map((pod) => podSeen(pod, entry, sandboxes));
}

function podSeen(
  { pod, life }: NodePod,
  entry: EntrySeen | undefined,
  sandboxes: Sandboxes | Impossible,
): PodSeen {
  const { namespace, name, uid } = pod;
  const identity = { namespace, name, uid };
  const outside = (reason: string) => ({ ...identity, meshed: false, captured: undefined, reason });
  if (life.hostNetwork) return outside("it is in the host's network");
  const skip = skipOf(entry?.settings ?? unsetSettings, pod);
  if (skip !== undefined) return outside(skip.reason);
  if (isImpossible(sandboxes)) {
    return { ...identity, meshed: true, captured: undefined, reason: sandboxes.impossible };
  }
  const known = evidenceOf(sandboxes, pod);
  return {
    ...identity,
    meshed: true,
    captured: known?.captured,
    reason: known?.reason ??
      (sandboxes.unread === 0 ? "the runtime has no result of it" : unreadText(sandboxes)),
  };
}

/** A pod whose annotations cannot be followed is meshed and does not start. */
function skipOf(settings: NodeDecidingSettings, pod: NodePod["pod"]): Skip | undefined {
  try {
    const decision = decideNow(settings, pod);
    return decision.kind === "skip" ? decision : undefined;
  } catch {
    return undefined;
  }
}
