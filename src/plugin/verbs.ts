/**
 * What the verbs do. DEL and GC need nothing done to rules, which go with the namespace: they let the
 * ledger forget (`forget.ts`), and remove what the engine `ebpf` has pinned (`pins.ts`).
 *
 * The code behind a look-up and behind the engines is loaded only when it is needed: reading it costs
 * some milliseconds, and most pods of many nodes are decided about without.
 */
import { CniError, CniErrorCode, describeChain } from "../cni/errors.ts";
import type { CniRequest, Handlers } from "../cni/serve.ts";
import { decideBeforeLookup } from "../pod/decide_early.ts";
import type { Decision } from "../pod/decision.ts";
import type { Call } from "./call.ts";
import { removePinsOfHost } from "./pins.ts";

/**
 * Returns what the verbs do.
 *
 * @param configure Makes the call of a request.
 * @param stateFolder The project's own folder; by default the host's, as the configuration names it.
 * @param removePins What DEL and GC do about pins; a program that does not see the host's BPF file
 * system has another way.
 */
export function verbHandlers(
  configure: (request: CniRequest) => Call,
  stateFolder?: string,
  removePins: (request: CniRequest) => Promise<void> = removePinsOfHost,
): Handlers {
  return {
    add: (request) => add(configure(request)),
    check: (request) => check(configure(request)),
    status: (request) => status(() => configure(request)),
    forget: async (request) => {
      try {
        await removePins(request);
      } finally {
        const { forget } = await import("./forget.ts");
        await forget(request, stateFolder);
      }
    },
  };
}

/**
 * ADD: captures the pod's traffic, or passes the pod through when it is not meshed.
 *
 * @throws {CniError} when the pod is meshed, or that is not known, and it cannot be captured; the
 * namespace then is as it was.
 */
export async function add(call: Call): Promise<void> {
  await namingPod(call, async () => {
    const decision = await decide(call);
    if (decision.kind === "skip") return;
    const { capture } = await import("./capture.ts");
    await call.phase("apply", () => capture(call, decision));
  });
}

/**
 * CHECK: compares what is installed with what ADD would install now.
 *
 * @throws {CniError} code 102 with the differences, or as ADD.
 */
export async function check(call: Call): Promise<void> {
  await namingPod(call, async () => {
    const decision = await decide(call);
    if (decision.kind === "skip") return;
    const { verify } = await import("./capture.ts");
    await call.phase("verify", () => verify(call, decision));
  });
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
  let decision: Decision | undefined = decideBeforeLookup(
    call.args,
    call.settings.excludeNamespaces,
    call.settings.includeNamespaces,
  );
  if (decision === undefined) {
    const { decideByLookup } = await import("./lookup.ts");
    decision = await decideByLookup(call);
  }
  if (decision.kind === "skip") {
    call.result = { result: "skipped", reason: decision.code };
    call.done = { result: "skipped", reason: decision.code };
    call.log.info(`Pod is skipped: ${decision.reason}`, { code: decision.code });
  }
  return decision;
}

/** What nobody has foreseen shall at least name the pod. */
async function namingPod(call: Call, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof CniError) throw error;
    throw new CniError(
      CniErrorCode.Internal,
      `Could not handle pod ${call.podLabel}: ${describeChain(error)}`,
      "This is a defect of kuma-cni",
      { cause: error },
    );
  }
}
