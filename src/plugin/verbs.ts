/** What ADD, CHECK and STATUS do. */
import { podReferenceOf } from "../cni/args.ts";
import { CniError, CniErrorCode } from "../cni/errors.ts";
import type { Call } from "./call.ts";

/**
 * ADD: captures the pod's traffic, or passes the pod through when it is not meshed.
 *
 * @throws {CniError} when a meshed pod, or one of which that is not known, cannot be captured.
 */
export function add(call: Call): Promise<void> {
  const { podNamespace, podName } = call.args;
  if (
    podNamespace === undefined || podName === undefined ||
    call.settings.excludeNamespaces.includes(podNamespace)
  ) {
    call.log.info("Pod is passed through");
    call.result = { result: "skipped" };
    return Promise.resolve();
  }
  podReferenceOf(call.args);
  throw new CniError(CniErrorCode.Internal, "Looking up pods is not built yet");
}

/** CHECK. */
export function check(call: Call): Promise<void> {
  return add(call);
}

/** STATUS. */
export function status(_call: Call): void {}
