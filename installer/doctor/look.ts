/** Looks at everything on a node that the doctor judges: two seconds at most, however much is broken. */
import { readChanges } from "../host/changes.ts";
import type { Observed } from "../host/observe.ts";
import type { Operations } from "../host/operations.ts";
import type { NodePod } from "../ledger/pod_life.ts";
import type { Plan } from "../plan/steps.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { readSandboxes } from "./evidence.ts";
import { listPods, lookAtAgent, lookAtApi, lookAtPods, openAccess } from "./look_at_cluster.ts";
import { lookAtEntries, lookAtFolders, lookAtKernel, lookAtTraces } from "./look_at_host.ts";
import {
  type AgentSeen,
  type ApiSeen,
  type Impossible,
  isImpossible,
  type NodeSeen,
  type TokenSeen,
} from "./seen.ts";

/** What others have answered. */
export interface Answers {
  readonly token: TokenSeen | Impossible;
  readonly api: ApiSeen | Impossible;
  readonly pods: readonly NodePod[] | Impossible;
  readonly agent: AgentSeen;
}

/**
 * Asks the API server and the agent. Nothing else goes on meanwhile: on a slow disk each piece of a file
 * keeps this process from hearing them, and an API server that had answered was called away.
 */
export async function askOthers(settings: Settings): Promise<Answers> {
  const access = openAccess(settings);
  const cluster = async () => {
    if (isImpossible(access)) return { token: access, api: access, pods: access };
    using _access = access;
    const [api, pods] = await Promise.all([
      lookAtApi(access, settings),
      listPods(access, settings),
    ]);
    return { token: access.token, api, pods };
  };
  const [asked, agent] = await Promise.all([cluster(), lookAtAgent(settings)]);
  return { ...asked, agent };
}

/**
 * Looks at a node.
 *
 * @param observed What install-cni sees of the host.
 * @param plan What it would do; `undefined` when its settings are not known.
 * @param answers What the others have answered.
 */
export function lookAtNode(
  operations: Operations,
  settings: Settings,
  observed: Observed,
  plan: Plan | undefined,
  { pods, ...answers }: Answers,
): NodeSeen {
  const entries = lookAtEntries(observed.files);
  return {
    settings,
    observed,
    plan,
    entries,
    kernel: lookAtKernel(),
    folders: lookAtFolders(operations, settings),
    traces: lookAtTraces(operations, settings),
    ...answers,
    pods: isImpossible(pods)
      ? pods
      : lookAtPods(pods, entries, readSandboxes(operations, settings)),
    hasProgram: operations.targetStatus(pathsOf(settings).plugin)?.kind === "file",
    changes: readChanges(operations, pathsOf(settings).stateDir),
  };
}
