/** What ADD, CHECK and STATUS do; DEL and GC need nothing done, since rules go with the namespace. */
import { podReferenceOf } from "../cni/args.ts";
import { CniError, CniErrorCode } from "../cni/errors.ts";
import { type Difference, EngineError } from "../engine/engine.ts";
import { DOCKER_CHAIN, readNamespaceFacts } from "../engine/facts.ts";
import { applyWithSelectedEngine, selectEngine } from "../engine/select.ts";
import { readLegacyTables } from "../linux/legacy_tables.ts";
import { isCurrentNetworkNamespace, withNetworkNamespace } from "../linux/network_namespace.ts";
import type { Pod } from "../kubernetes/pod.ts";
import { ApiPodSource } from "../pod/api_source.ts";
import { decideBeforeLookup, decideForPod } from "../pod/decide.ts";
import type { Decision, Redirect } from "../pod/decision.ts";
import { lookUpPod } from "../pod/lookup.ts";
import type { PodSource } from "../pod/source.ts";
import type { IpFamily } from "../redirect/config.ts";
import { compileRuleset } from "../redirect/compile.ts";
import type { Ruleset } from "../redirect/ruleset.ts";
import { AgentPodSource } from "./agent_source.ts";
import type { Call } from "./call.ts";
import { checkFailure, namespaceFailure, podFailure } from "./failures.ts";

/**
 * ADD: captures the pod's traffic, or passes the pod through when it is not meshed.
 *
 * @throws {CniError} when the pod is meshed, or that is not known, and it cannot be captured; the
 * namespace then is as it was.
 */
export async function add(call: Call): Promise<void> {
  const decision = await decide(call);
  if (decision.kind === "skip") return;
  const applied = await call.phase("apply", () =>
    inPodNamespace(call, decision, (ruleset) => {
      return applyWithSelectedEngine(call.settings.engine, ruleset);
    }));
  call.result = { result: "redirected", engine: applied.engine };
  const { engine, reason, replaced, families, ruleCount } = applied;
  call.log.info("Pod's traffic is redirected to its sidecar", {
    engine,
    reason,
    families,
    ruleCount,
    ...(replaced.length === 0 ? {} : { replaced }),
  });
  for (const note of applied.notes) call.log.warn(note);
}

/**
 * CHECK: compares what is installed with what ADD would install now.
 *
 * @throws {CniError} code 102 with the differences, or as ADD.
 */
export async function check(call: Call): Promise<void> {
  const decision = await decide(call);
  if (decision.kind === "skip") return;
  const differences = await call.phase(
    "verify",
    () => inPodNamespace(call, decision, (ruleset) => verifyWithAnyEngine(call, ruleset)),
  );
  if (differences.length > 0) throw checkFailure(call.podLabel, differences);
  call.log.debug("Rules are as they should be");
}

/** What an ADD with another setting or on another kernel has installed is as good. */
function verifyWithAnyEngine(call: Call, ruleset: Ruleset): readonly Difference[] {
  const { engine, others } = selectEngine(call.settings.engine);
  const differences = engine.verify(ruleset);
  const equal = differences.length === 0 || others.some((other) => {
    try {
      return other.verify(ruleset).length === 0;
    } catch (error) {
      // An engine that cannot work here has not installed anything here.
      if (error instanceof EngineError) return false;
      throw error;
    }
  });
  return equal ? [] : differences;
}

/**
 * STATUS: whether an ADD can succeed. Only what cannot heal by itself counts: a runtime takes the
 * whole node out of service on a failure, while an unreachable API server stops meshed pods only.
 *
 * @param configure Reads the configuration.
 * @throws {CniError} code 50 when every ADD fails with this configuration.
 */
export function status(configure: () => Call): void {
  try {
    configure();
  } catch (error) {
    if (!(error instanceof CniError) || error.code !== CniErrorCode.InvalidConfig) throw error;
    throw new CniError(CniErrorCode.NotAvailable, error.message, error.details, { cause: error });
  }
}

/** Finds out what is to be done with the pod, asking others only if need be. */
async function decide(call: Call): Promise<Decision> {
  const { settings } = call;
  const early = decideBeforeLookup(call.args, settings.excludeNamespaces);
  if (early !== undefined) return passedThrough(call, early);
  try {
    const pod = await call.phase("lookup", () => lookUp(call));
    const { containerNames, initContainerNames, annotations } = pod;
    call.log.debug("Pod was found", { containerNames, initContainerNames, annotations });
    const decision = decideForPod(pod, {
      allowPodSettings: new Set(settings.allowPodSettings),
      resolvers: settings.resolvers,
      ...(settings.redirectRulesVersion === undefined
        ? {}
        : { rulesVersion: settings.redirectRulesVersion }),
    });
    if (decision.kind === "skip") return passedThrough(call, decision);
    for (const warning of decision.warnings) call.log.warn(warning);
    call.log.debug("Pod is meshed", { config: decision.config });
    return decision;
  } catch (error) {
    throw podFailure(call.podLabel, error);
  }
}

function passedThrough(call: Call, skip: Extract<Decision, { kind: "skip" }>): Decision {
  call.result = { result: "skipped", reason: skip.code };
  call.log.info(`Pod is passed through: ${skip.reason}`, { code: skip.code });
  return skip;
}

/** Asks the node agent first, which may know the pod already, then the API server. */
async function lookUp(call: Call): Promise<Pod> {
  const { kubeconfig, lookupTimeoutSeconds } = call.settings;
  const reference = podReferenceOf(call.args);
  const agent = await call.agent();
  const sources: PodSource[] = [];
  if (agent !== undefined) {
    // The other half of the time is for the API server.
    sources.push(new AgentPodSource(agent, lookupTimeoutSeconds * 500));
  }
  // Less than half of the bound, so that one hanging request is not the end, and 10 s at most.
  const requestMilliseconds = Math.min(10_000, lookupTimeoutSeconds * 450);
  using api = kubeconfig === undefined
    ? undefined
    : new ApiPodSource(kubeconfig, requestMilliseconds);
  if (api !== undefined) sources.push(api);
  if (sources.length === 0) {
    throw new CniError(
      CniErrorCode.InvalidConfig,
      `Could not look up pod ${call.podLabel}: "kubernetes.kubeconfig" is not set`,
      "Set it in the plugin's entry of the CNI configuration file on the node",
    );
  }
  return await lookUpPod(reference, sources, {
    timeoutSeconds: lookupTimeoutSeconds,
    onRetry: ({ attempt, delayMilliseconds, error }) =>
      call.log.debug("Pod look-up is repeated", {
        attempt,
        delayMilliseconds,
        error: error.message,
      }),
  });
}

/**
 * Compiles the rules for the pod's namespace and works with them inside of it, all synchronously:
 * only this thread is there.
 */
function inPodNamespace<T>(call: Call, decision: Redirect, work: (ruleset: Ruleset) => T): T {
  const { netns, allowOwnNamespace } = call.request.environment;
  let entered = false;
  try {
    if (!allowOwnNamespace && isOwnNamespace(netns)) {
      throw new Error("It is the plugin's own network namespace, which is the host's");
    }
    return withNetworkNamespace(netns, () => {
      entered = true;
      const facts = readNamespaceFacts({ legacyDockerOutput: hasLegacyDockerChain });
      return work(compileRuleset(decision.config, facts));
    });
  } catch (error) {
    if (!entered) throw namespaceFailure(call.podLabel, netns, error);
    throw podFailure(call.podLabel, error);
  }
}

function hasLegacyDockerChain(family: IpFamily): boolean {
  return readLegacyTables(family).some(({ name, chains }) =>
    name === "nat" && chains.includes(DOCKER_CHAIN)
  );
}

function isOwnNamespace(path: string): boolean {
  try {
    return isCurrentNetworkNamespace(path);
  } catch (error) {
    // Entering it says better what is wrong with the path.
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
}
