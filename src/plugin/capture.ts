/** Works with the rules inside of the pod's network namespace. */
import { CniError, CniErrorCode } from "../cni/errors.ts";
import type { EngineSetting } from "../engine/choice/select.ts";
import { type Difference, EngineError } from "../engine/engine.ts";
import {
  applyWithNftables,
  OtherEngineError,
  verifyWithNftables,
} from "../engine/choice/nftables_alone.ts";
import type { Compile, WorkOptions } from "../engine/choice/work.ts";
import { LinuxError } from "../linux/errno.ts";
import { networkNamespaceIdentity } from "../linux/namespace_identity.ts";
import {
  isCurrentNetworkNamespace,
  LostNamespaceError,
  withNetworkNamespace,
} from "../linux/network_namespace.ts";
import { compileRuleset } from "../redirect/compile.ts";
import type { Redirect } from "../pod/decision.ts";
import { messageOf } from "../text/message_of.ts";
import { quote } from "../text/quote.ts";
import { shorten } from "../text/shorten.ts";
import type { Call } from "./call.ts";
import { ebpfForPod } from "./ebpf.ts";

/** Most differences that a message shows; the rest is counted. */
const SHOWN_DIFFERENCES = 10;

/** Longest rule that a message shows: one that somebody else has made can have 64 KiB. */
const SHOWN_RULE = 500;

/**
 * Installs the rules of a configuration and proves that they are there.
 *
 * @throws {CniError} code 8 when the namespace cannot be entered, 101 when the rules cannot be
 * installed.
 */
export async function capture(call: Call, decision: Redirect): Promise<void> {
  const setting = netfilterSetting(call);
  const applied = await workInPodNamespace(call, decision, {
    withNftables: (compile, mayWait) => applyWithNftables(setting, compile, mayWait),
    withAnyEngine: ({ applyWithSelectedEngine }, compile, options) => ({
      ...applyWithSelectedEngine(setting, compile, options),
      namespace: networkNamespaceIdentity(),
    }),
  });
  const { engine, reason, replaced, families, ruleCount, fallback, namespace } = applied;
  call.result = {
    result: "redirected",
    engine,
    ...(fallback === undefined ? {} : { fallback: fallback.code }),
  };
  call.done = { result: "redirected", engine, namespace, config: decision.config };
  if (fallback !== undefined) {
    call.log.warn(`Engine "ebpf" cannot be used for this pod: ${fallback.reason}`, {
      code: fallback.code,
      instead: engine,
    });
  }
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
 * Compares the rules that are there with those of a configuration.
 *
 * @throws {CniError} code 102 with the differences, 8 when the namespace cannot be entered, 101 when
 * it cannot be examined.
 */
export async function verify(call: Call, decision: Redirect): Promise<void> {
  const setting = netfilterSetting(call);
  const { differences } = await workInPodNamespace(call, decision, {
    withNftables: (compile) => verifyWithNftables(setting, compile),
    withAnyEngine: ({ verifyRules }, compile, options) =>
      verifyRules(setting, compile, "any engine", options),
  });
  if (differences.length === 0) return call.log.debug("Rules are as they should be");
  const count = differences.length === 1 ? "1 difference" : `${differences.length} differences`;
  throw new CniError(
    CniErrorCode.CheckFailed,
    `Rules in the network namespace of pod ${call.podLabel} are not as they should be: ${count}`,
    `${describeDifferences(differences)}; recreate the pod to repair it`,
  );
}

/** What installs the rules where the engine `ebpf` does not. */
function netfilterSetting({ settings: { engine } }: Call): EngineSetting {
  return engine === "ebpf" ? "auto" : engine;
}

/** The same work in two ways. */
interface Ways<T> {
  /** With the engine "nftables" alone. */
  withNftables(compile: Compile, mayWait: boolean): T;
  withAnyEngine(
    engines: typeof import("../engine/choice/work.ts"),
    compile: Compile,
    options: WorkOptions,
  ): T;
}

/**
 * Works inside of the pod's namespace with the engine "nftables" alone, as for nearly every pod, else
 * once more with all of them, whose code is loaded only then.
 */
async function workInPodNamespace<T>(call: Call, decision: Redirect, ways: Ways<T>): Promise<T> {
  const ebpf = await ebpfForPod(call, decision);
  const { host } = call;
  const { config } = decision;
  if (host !== undefined) {
    const compile: Compile = (facts) => host.compile(config, facts);
    return host.inPodNamespace(call.settings, () => ways.withNftables(compile, false));
  }
  const compile: Compile = (facts) => compileRuleset(config, facts);
  if (ebpf === undefined) {
    try {
      return inPodNamespace(call, () => ways.withNftables(compile, true));
    } catch (error) {
      if (!(error instanceof OtherEngineError)) throw error;
    }
  }
  const engines = await import("../engine/choice/work.ts");
  const options = ebpf === undefined ? {} : { ebpf };
  return inPodNamespace(call, () => ways.withAnyEngine(engines, compile, options));
}

/** Works inside of the pod's namespace, all synchronously: only this thread is there. */
function inPodNamespace<T>(call: Call, work: () => T): T {
  const { netns, allowOwnNamespace } = call.request.environment;
  let entered = false;
  try {
    if (!allowOwnNamespace && isOwnNamespace(netns)) {
      throw new Error("It is the plugin's own network namespace, which is the host's");
    }
    return withNetworkNamespace(netns, () => {
      entered = true;
      return work();
    });
  } catch (error) {
    throw entered
      ? captureFailure(call.podLabel, error)
      : namespaceFailure(call.podLabel, netns, error);
  }
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

/** The kernel's words for a machine or a process that has used up what it may have. */
function isExhausted(thrown: unknown): boolean {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error instanceof LinuxError && /^(EMFILE|ENFILE|ENOMEM|ENOBUFS)$/.test(error.code)) {
      return true;
    }
  }
  return false;
}

function exhausted(podLabel: string, thrown: unknown): CniError {
  const reason = messageOf(thrown);
  return new CniError(
    CniErrorCode.TryAgainLater,
    `Could not redirect the traffic of pod ${podLabel}: ${shorten(reason, 500)}`,
    "This node or the container runtime has run out of open files or memory",
    { cause: thrown },
  );
}

function namespaceFailure(podLabel: string, path: string, thrown: unknown): CniError {
  if (isExhausted(thrown)) return exhausted(podLabel, thrown);
  const reason = messageOf(thrown);
  return new CniError(
    CniErrorCode.InvalidNamespace,
    `Could not enter the network namespace of pod ${podLabel}: ${shorten(reason, 500)}`,
    `CNI_NETNS is ${quote(path, 256)}; the container runtime makes and names it`,
    { cause: thrown },
  );
}

function captureFailure(podLabel: string, thrown: unknown): unknown {
  if (thrown instanceof LostNamespaceError) return thrown;
  if (isExhausted(thrown)) return exhausted(podLabel, thrown);
  if (!(thrown instanceof EngineError || thrown instanceof LinuxError)) return thrown;
  return new CniError(
    CniErrorCode.ApplyFailed,
    `Could not redirect the traffic of pod ${podLabel}: ${thrown.message}`,
    thrown instanceof EngineError ? describeDifferences(thrown.differences) : "",
    { cause: thrown },
  );
}

function describeDifferences(differences: readonly Difference[]): string {
  const shown = differences.slice(0, SHOWN_DIFFERENCES).map(({ kind, object, expected, actual }) =>
    `${kind}: ${object}` +
    (expected === undefined ? "" : `, expected ${quote(expected, SHOWN_RULE)}`) +
    (actual === undefined ? "" : `, actual ${quote(actual, SHOWN_RULE)}`)
  );
  const rest = differences.length - shown.length;
  return shown.concat(rest > 0 ? [`and ${rest} more`] : []).join("; ");
}
