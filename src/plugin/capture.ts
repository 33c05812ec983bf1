/** Works with the rules inside of the pod's network namespace. */
import { CniError, CniErrorCode } from "../cni/errors.ts";
import type { EbpfForPod } from "../engine/choice/ebpf.ts";
import type { EngineSetting } from "../engine/choice/select.ts";
import { type Difference, EngineError } from "../engine/engine.ts";
import {
  applyWithSelectedEngine,
  type Compile,
  verifyRules,
  type WorkOptions,
} from "../engine/choice/work.ts";
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
  const ebpf = await ebpfForPod(call, decision);
  const applied = inPodNamespace(
    call,
    decision,
    (compile, options) => ({
      ...applyWithSelectedEngine(netfilterSetting(call), compile, withEbpf(options, ebpf)),
      namespace: networkNamespaceIdentity(),
    }),
  );
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
  const ebpf = await ebpfForPod(call, decision);
  const { differences } = inPodNamespace(
    call,
    decision,
    (compile, options) =>
      verifyRules(netfilterSetting(call), compile, "any engine", withEbpf(options, ebpf)),
  );
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

function withEbpf(options: WorkOptions, ebpf: EbpfForPod | undefined): WorkOptions {
  return ebpf === undefined ? options : { ...options, ebpf };
}

/** Works inside of the pod's namespace, all synchronously: only this thread is there. */
function inPodNamespace<T>(
  call: Call,
  { config }: Redirect,
  work: (compile: Compile, options: WorkOptions) => T,
): T {
  const { netns, allowOwnNamespace } = call.request.environment;
  const { host } = call;
  if (host !== undefined) {
    const compile: Compile = (facts) => host.compile(config, facts);
    return host.inPodNamespace(call.settings, (options) => work(compile, options));
  }
  let entered = false;
  try {
    if (!allowOwnNamespace && isOwnNamespace(netns)) {
      throw new Error("It is the plugin's own network namespace, which is the host's");
    }
    return withNetworkNamespace(netns, () => {
      entered = true;
      return work((facts) => compileRuleset(config, facts), {});
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
