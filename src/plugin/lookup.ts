/** Asks for the pod and decides about it. */
import { podReferenceOf } from "../cni/args.ts";
import { CniError, CniErrorCode } from "../cni/errors.ts";
import type { Pod } from "../kubernetes/pod.ts";
import { ApiPodSource } from "../pod/api_source.ts";
import { ConfigError } from "../pod/config_error.ts";
import { decideBySettings } from "../pod/decide.ts";
import type { Decision } from "../pod/decision.ts";
import { lookUpPod, PodLookupError } from "../pod/lookup.ts";
import { loggedPod } from "../pod/logged_pod.ts";
import { allowableSettings } from "../pod/redirect_config.ts";
import type { PodSource } from "../pod/source.ts";
import { AgentPodSource } from "./agent_source.ts";
import type { Call } from "./call.ts";

/**
 * Looks the call's pod up and decides what is to be done with it.
 *
 * @throws {CniError} code 4, 7, 11 or 100 that names the pod.
 */
export async function decideByLookup(call: Call): Promise<Decision> {
  const { settings } = call;
  try {
    const pod = await call.phase("lookup", () => lookUp(call));
    call.log.debug("Pod was found", loggedPod(pod));
    warnOfUnknownSettings(call);
    const decision = decideBySettings(pod, settings);
    if (decision.kind === "redirect") {
      for (const warning of decision.warnings) call.log.warn(warning);
      call.log.debug("Pod is meshed", {
        config: decision.config,
        dnsOverTcp: {
          form: decision.config.rulesVersion,
          because: decision.origins.get("rulesVersion"),
        },
      });
    }
    return decision;
  } catch (error) {
    throw lookupFailure(call.podLabel, error);
  }
}

/** Asks the node agent first, which may know the pod already, then the API server. */
async function lookUp(call: Call): Promise<Pod> {
  const { kubeconfig, lookupTimeoutSeconds } = call.settings;
  const reference = podReferenceOf(call.args);
  if (call.host !== undefined) return await call.host.pod(reference);
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
      "Set it in CNI_NETWORK_CONFIG of install-cni, which writes the plugin's entry",
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

/** A typing mistake only makes the plugin stricter, so it stops no pod. */
function warnOfUnknownSettings({ settings, log }: Call): void {
  const unknown = settings.allowPodSettings.filter((key) => !allowableSettings.includes(key));
  if (unknown.length === 0) return;
  log.warn('"allow_pod_settings" of the network configuration has keys without effect', {
    unknown,
    allowed: allowableSettings,
  });
}

function lookupFailure(podLabel: string, thrown: unknown): unknown {
  if (thrown instanceof PodLookupError) {
    return new CniError(
      thrown.temporary ? CniErrorCode.TryAgainLater : CniErrorCode.LookupRefused,
      `Could not find out whether pod ${podLabel} is meshed: ${thrown.message}`,
      thrown.hint,
      { cause: thrown },
    );
  }
  if (thrown instanceof ConfigError) {
    return new CniError(
      CniErrorCode.InvalidConfig,
      `Pod ${podLabel} cannot be redirected as its annotations ask: ${thrown.message}`,
      "Correct the annotation on the pod's template, or on the control plane that injects it",
      { cause: thrown },
    );
  }
  return thrown;
}
