/** Looks a pod up: asks again what can heal, gives up at once on what cannot, never takes too long. */
import { ApiError } from "../kubernetes/errors.ts";
import { KubeconfigError } from "../kubernetes/kubeconfig.ts";
import type { Pod } from "../kubernetes/pod.ts";
import { errorOf } from "../text/message_of.ts";
import { type PodReference, type PodSource, SourceUnavailableError } from "./source.ts";

/** Bounds of a look-up, and who hears of its course. */
export interface LookupOptions {
  /** Bound of the whole look-up; 30 s. */
  readonly timeoutSeconds?: number;
  /** How long a pod that is missing or has another UID is asked for again; 5 s. */
  readonly settleSeconds?: number;
  /** Hears of each failed attempt that will be repeated. */
  readonly onRetry?: (retry: {
    readonly attempt: number;
    readonly delayMilliseconds: number;
    readonly error: Error;
  }) => void;
}

/** What stood in the way of a look-up. */
export type LookupProblem =
  /** The API has another pod of this name. */
  | "stale"
  | "not-found"
  | "forbidden"
  | "unauthorized"
  /** The server's certificate is not accepted, or ours cannot be used. */
  | "certificate"
  /** No answer, or one that tells of trouble on the server's side. */
  | "unreachable"
  /** An answer that is no pod. */
  | "invalid-answer"
  | "kubeconfig"
  | "internal";

/** A look-up failed. */
export class PodLookupError extends Error {
  override readonly name = "PodLookupError";
  constructor(
    message: string,
    readonly problem: LookupProblem,
    /** The same look-up can succeed later without anybody's doing. */
    readonly temporary: boolean,
    /** What a person can do about it. */
    readonly hint: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The API's pod is not the one that the runtime is starting. */
class StalePodError extends Error {
  constructor(reference: PodReference, pod: Pod) {
    super(
      `Pod "${reference.namespace}/${reference.name}" has the UID "${pod.uid}", but the container ` +
        `runtime is starting the one with the UID "${reference.uid}"`,
    );
  }
}

/** Longest wait that a server's `Retry-After` can impose. */
const longestRetryAfterMilliseconds = 10_000;

/**
 * Looks a pod up. Each attempt asks the sources in order until one has the right pod.
 *
 * @param reference The pod; its UID, when there is one, must be the found pod's or, for the mirror of
 * a static pod, stand in its annotation `kubernetes.io/config.hash`.
 * @param sources At least one; the last one should be the authority.
 * @throws {PodLookupError} when the pod cannot be had, within the time bound.
 */
export async function lookUpPod(
  reference: PodReference,
  sources: readonly PodSource[],
  options: LookupOptions = {},
): Promise<Pod> {
  const limit = (options.timeoutSeconds ?? 30) * 1000;
  const bound = new AbortController();
  const timer = setTimeout(() => bound.abort(), limit);
  try {
    return await new Lookup(reference, sources, options, limit, bound.signal).run();
  } finally {
    clearTimeout(timer);
  }
}

/** Tells whether a pod of the API is the one that the runtime means by `uid`. */
export function isPodOfUid(pod: Pod, uid: string | undefined): boolean {
  return uid === undefined || pod.uid === uid ||
    (Object.hasOwn(pod.annotations, "kubernetes.io/config.hash") &&
      pod.annotations["kubernetes.io/config.hash"] === uid);
}

class Lookup {
  readonly #started = performance.now();
  readonly #live: Set<PodSource>;
  /** Sources whose certificates were refused and read again. */
  readonly #renewed = new Set<PodSource>();
  #attempts = 0;

  constructor(
    readonly reference: PodReference,
    sources: readonly PodSource[],
    readonly options: LookupOptions,
    readonly limit: number,
    readonly signal: AbortSignal,
  ) {
    this.#live = new Set(sources);
  }

  async run(): Promise<Pod> {
    // No error is made before it is needed: its stack trace costs over a millisecond.
    let last: Error | undefined;
    while (true) {
      this.#attempts++;
      const delays: number[] = [];
      for (const source of [...this.#live]) {
        const outcome = await this.#ask(source);
        if (!(outcome instanceof Error)) return outcome;
        if (this.signal.aborted) throw this.#failure(last ?? outcome, true);
        // The authority's word weighs more than that of a source that dropped out.
        if (!(outcome instanceof SourceUnavailableError) || this.#live.size === 0) last = outcome;
        const delay = this.#delayBeforeRetry(source, outcome);
        if (delay !== undefined) delays.push(delay);
      }
      last ??= new SourceUnavailableError("There is no source of pods");
      const delay = delays.length === 0 ? undefined : Math.min(...delays);
      if (delay === undefined || this.#elapsed() + delay >= this.limit) {
        throw this.#failure(last, delay !== undefined);
      }
      this.options.onRetry?.({
        attempt: this.#attempts,
        delayMilliseconds: delay,
        error: last,
      });
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }

  /** Asks one source; an error is a result like another. */
  async #ask(source: PodSource): Promise<Pod | Error> {
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(new Error(`Source "${source.name}" did not answer in time`));
    this.signal.addEventListener("abort", abort, { once: true });
    try {
      const asked = source.get(this.reference, this.signal);
      // The race may leave the request behind; its failure then is nobody's business.
      asked.catch(() => {});
      const pod = await Promise.race([asked, aborted.promise]);
      return isPodOfUid(pod, this.reference.uid) ? pod : new StalePodError(this.reference, pod);
    } catch (error) {
      if (error instanceof SourceUnavailableError) this.#live.delete(source);
      return errorOf(error);
    } finally {
      this.signal.removeEventListener("abort", abort);
    }
  }

  /** Milliseconds to wait before this source is asked again; `undefined` when that is in vain. */
  #delayBeforeRetry(source: PodSource, error: Error): number | undefined {
    const backOff = this.#backOff();
    const settling = this.#elapsed() < (this.options.settleSeconds ?? 5) * 1000;
    if (error instanceof StalePodError) return settling ? backOff : undefined;
    if (error instanceof KubeconfigError) return error.temporary ? backOff : undefined;
    if (!(error instanceof ApiError)) return undefined;
    if (error.status === 404) return settling ? backOff : undefined;
    if (error.status === 401) {
      // The token dies with the installer's pod that wrote it, and while a DaemonSet rolls the next
      // one takes its time. A starting API server refuses good tokens, too.
      const changed = renewed(source);
      return changed === undefined ? undefined : changed ? 0 : backOff;
    }
    if (error.kind === "tls") {
      if (this.#renewed.has(source)) return undefined;
      this.#renewed.add(source);
      return renewed(source) ? 0 : undefined;
    }
    if (!error.temporary) return undefined;
    const wanted = error.retryAfterMilliseconds ?? 0;
    return Math.max(backOff, Math.min(wanted, longestRetryAfterMilliseconds));
  }

  /** 100 ms doubling to 2 s, of which a random half, so that the pods of a node spread out. */
  #backOff(): number {
    const full = Math.min(100 * 2 ** (this.#attempts - 1), 2000);
    return full * (0.5 + Math.random() / 2);
  }

  #elapsed(): number {
    return performance.now() - this.#started;
  }

  #failure(cause: Error, outOfTime: boolean): PodLookupError {
    const { problem, temporary, hint } = diagnose(cause, this.reference);
    const seconds = (this.#elapsed() / 1000).toFixed(1);
    const tries = `${this.#attempts} ${this.#attempts === 1 ? "attempt" : "attempts"}`;
    return new PodLookupError(
      `Pod look-up failed after ${tries} in ${seconds} s` +
        `${outOfTime ? ` (limit ${this.limit / 1000} s)` : ""}: ${cause.message}`,
      problem,
      temporary || outOfTime,
      hint,
      { cause },
    );
  }
}

/** Whether a source has other credentials now; `undefined` when it has none any more. */
function renewed(source: PodSource): boolean | undefined {
  try {
    return source.renew?.() ?? false;
  } catch {
    return undefined;
  }
}

interface Diagnosis {
  readonly problem: LookupProblem;
  readonly temporary: boolean;
  readonly hint: string;
}

function diagnose(error: Error, reference: PodReference): Diagnosis {
  if (error instanceof StalePodError) {
    return {
      problem: "stale",
      temporary: true,
      hint: "The pod was deleted and created again under the same name; the runtime gives up the " +
        "old one by itself",
    };
  }
  if (error instanceof KubeconfigError && error.temporary) {
    return {
      problem: "internal",
      temporary: true,
      hint:
        "This node or the container runtime has run out of open files or memory; look for what " +
        "takes them, and at the runtime's limits (LimitNOFILE of its systemd unit)",
    };
  }
  if (error instanceof KubeconfigError) {
    return {
      problem: "kubeconfig",
      temporary: false,
      hint: "install-cni writes this file; look at the log of its pod on this node",
    };
  }
  if (error instanceof ApiError) return diagnoseApiError(error, reference);
  if (error instanceof SourceUnavailableError) {
    return {
      problem: "unreachable",
      temporary: true,
      hint: 'Set "kubernetes.kubeconfig" in CNI_NETWORK_CONFIG of install-cni',
    };
  }
  return { problem: "internal", temporary: false, hint: "" };
}

function diagnoseApiError(error: ApiError, reference: PodReference): Diagnosis {
  switch (error.status) {
    case 401:
      return {
        problem: "unauthorized",
        temporary: true,
        hint:
          "The token in the kubeconfig is expired, revoked or of another cluster; install-cni " +
          "renews it: look at the log of its pod on this node",
      };
    case 403:
      return {
        problem: "forbidden",
        temporary: false,
        hint: "The service account of kuma-cni needs a ClusterRole with the rule " +
          'apiGroups: [""], resources: ["pods"], verbs: ["get"], and a ClusterRoleBinding to it',
      };
    case 404:
      return {
        problem: "not-found",
        temporary: true,
        hint: missingPodHint(reference),
      };
  }
  switch (error.kind) {
    case "tls":
      return { problem: "certificate", temporary: false, hint: certificateHint(error) };
    case "content":
      return {
        problem: "invalid-answer",
        temporary: false,
        hint: 'Check "clusters[].cluster.server" of the kubeconfig, and proxies on the way to it',
      };
    default:
      return {
        problem: "unreachable",
        temporary: error.temporary,
        hint:
          "Check from this node that the API server answers at the address in the kubeconfig; " +
          "the container runtime's variables HTTPS_PROXY and NO_PROXY count too",
      };
  }
}

/** Kubelet's runtimes name a pod's UID; Podman and nerdctl, which may read the same folder, do not. */
function missingPodHint({ uid }: PodReference): string {
  if (uid !== undefined) return "The pod was deleted, or the kubeconfig is of another cluster";
  return "A container of Podman or nerdctl, to judge by the missing K8S_POD_UID: give them a folder " +
    "of network configurations of their own (network_config_dir in containers.conf, cni_netconfpath " +
    "in nerdctl.toml); else the pod was deleted, or the kubeconfig is of another cluster";
}

function certificateHint({ certificateProblem }: ApiError): string {
  switch (certificateProblem) {
    case "unknown-authority":
      return '"certificate-authority-data" of the kubeconfig is not the authority of the API ' +
        "server's certificate; was the cluster's authority replaced? Restart the pod of " +
        "install-cni on this node";
    case "other-name":
      return 'The API server\'s certificate is for other names; set "tls-server-name" in the ' +
        "kubeconfig, or use an address that the certificate has";
    case "out-of-time":
      return "The API server's certificate is outside its time of validity, or this node's clock " +
        "is wrong";
    case "unusable":
      return 'Repair "certificate-authority-data", "client-certificate-data" or ' +
        '"client-key-data" of the kubeconfig, or what else the message names';
    default:
      return "Compare the kubeconfig's certificates with those of the API server";
  }
}
