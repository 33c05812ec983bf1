/** Where the errors of the other rooms become errors of the CNI protocol. */
import { CniError, CniErrorCode, describeChain } from "../cni/errors.ts";
import { type Difference, EngineError } from "../engine/engine.ts";
import { LinuxError } from "../linux/errno.ts";
import { LostNamespaceError } from "../linux/network_namespace.ts";
import { ConfigError } from "../pod/config_error.ts";
import { PodLookupError } from "../pod/lookup.ts";

/** Most differences that a message shows; the rest is counted. */
const SHOWN_DIFFERENCES = 10;

/**
 * Makes what a room has thrown an error of the protocol that names the pod.
 *
 * @param podLabel The pod, quoted.
 * @param thrown What was caught.
 */
export function podFailure(podLabel: string, thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown;
  const cause = { cause: thrown };
  if (thrown instanceof PodLookupError) {
    return new CniError(
      thrown.temporary ? CniErrorCode.TryAgainLater : CniErrorCode.LookupRefused,
      `Could not find out whether pod ${podLabel} is meshed: ${thrown.message}`,
      thrown.hint,
      cause,
    );
  }
  if (thrown instanceof ConfigError) {
    return new CniError(
      CniErrorCode.InvalidConfig,
      `Pod ${podLabel} cannot be redirected as its annotations ask: ${thrown.message}`,
      "Correct the annotation on the pod's template, or on the control plane that injects it",
      cause,
    );
  }
  if (thrown instanceof EngineError) {
    return new CniError(
      CniErrorCode.ApplyFailed,
      `Could not redirect the traffic of pod ${podLabel}: ${thrown.message}`,
      describeDifferences(thrown.differences),
      cause,
    );
  }
  if (thrown instanceof LinuxError && !(thrown instanceof LostNamespaceError)) {
    return new CniError(
      CniErrorCode.ApplyFailed,
      `Could not redirect the traffic of pod ${podLabel}: ${thrown.message}`,
      "",
      cause,
    );
  }
  return new CniError(
    CniErrorCode.Internal,
    `Could not handle pod ${podLabel}: ${describeChain(thrown)}`,
    "This is a defect of kuma-cni",
    cause,
  );
}

/** The network namespace of a call cannot be entered. */
export function namespaceFailure(podLabel: string, path: string, thrown: unknown): CniError {
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return new CniError(
    CniErrorCode.InvalidNamespace,
    `Could not enter the network namespace of pod ${podLabel}: ${reason}`,
    `CNI_NETNS is ${JSON.stringify(path)}; the container runtime makes and names it`,
    { cause: thrown },
  );
}

/** CHECK found something else than what should be there. */
export function checkFailure(podLabel: string, differences: readonly Difference[]): CniError {
  const count = differences.length === 1 ? "1 difference" : `${differences.length} differences`;
  return new CniError(
    CniErrorCode.CheckFailed,
    `Rules in the network namespace of pod ${podLabel} are not as they should be: ${count}`,
    `${describeDifferences(differences)}; recreate the pod to repair it`,
  );
}

function describeDifferences(differences: readonly Difference[]): string {
  const shown = differences.slice(0, SHOWN_DIFFERENCES).map(({ kind, object, wanted, actual }) =>
    `${kind}: ${object}` +
    (wanted === undefined ? "" : `, wanted ${JSON.stringify(wanted)}`) +
    (actual === undefined ? "" : `, actual ${JSON.stringify(actual)}`)
  );
  const rest = differences.length - shown.length;
  return shown.concat(rest > 0 ? [`and ${rest} more`] : []).join("; ");
}
