/** Looks at everything on a node that the doctor judges: about a second, however much is broken. */
import { readChanges } from "../host/changes.ts";
import type { Observed } from "../host/observe.ts";
import type { Operations } from "../host/operations.ts";
import type { Plan } from "../plan/steps.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { readSandboxes } from "./evidence.ts";
import { lookAtAgent, lookAtApi, lookAtPods, openAccess } from "./look_at_cluster.ts";
import { lookAtEntries, lookAtFolders, lookAtKernel, lookAtTraces } from "./look_at_host.ts";
import { isImpossible, type NodeSeen } from "./seen.ts";

/**
 * Looks at a node.
 *
 * @param observed What install-cni sees of the host.
 * @param plan What it would do; `undefined` when its settings are not known.
 */
export async function lookAtNode(
  operations: Operations,
  settings: Settings,
  observed: Observed,
  plan: Plan | undefined,
): Promise<NodeSeen> {
  const entries = lookAtEntries(observed.files);
  const sandboxes = readSandboxes(operations, settings);
  const access = openAccess(settings);
  const cluster = async () => {
    if (isImpossible(access)) return { token: access, api: access, pods: access };
    using _access = access;
    const [api, pods] = await Promise.all([
      lookAtApi(access, settings),
      lookAtPods(access, settings, entries, sandboxes),
    ]);
    return { token: access.token, api, pods };
  };
  const [asked, agent] = await Promise.all([cluster(), lookAtAgent(settings)]);
  return {
    settings,
    observed,
    plan,
    entries,
    kernel: lookAtKernel(),
    folders: lookAtFolders(operations, settings),
    traces: lookAtTraces(operations, settings),
    ...asked,
    agent,
    hasProgram: operations.targetStatus(pathsOf(settings).plugin)?.kind === "file",
    changes: readChanges(operations, pathsOf(settings).stateDir),
  };
}
