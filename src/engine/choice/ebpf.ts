/**
 * Whether the engine `ebpf` can serve a pod, and what of it is left there from an earlier sandbox.
 * Loaded only where somebody asks for that engine, or has asked for it on this node before.
 */
import type { Ruleset } from "../../redirect/ruleset.ts";
import { lookAtCgroups } from "../../linux/cgroup_view.ts";
import { LinuxError } from "../../linux/errno.ts";
import { isMountOf } from "../../linux/mounts.ts";
import {
  type CgroupProblem,
  type CgroupView,
  findPodCgroup,
  type PodCgroup,
} from "../../linux/pod_cgroup.ts";
import type { EbpfModule } from "../ebpf/interface.ts";
import { type ApplyResult, type Engine, EngineError } from "../engine.ts";
import type { RedirectCounts } from "../redirect_counts.ts";
import { hasForeignOwner } from "../iptables/entrance.ts";

/** Who asks, and for which pod. */
export interface EbpfRequest {
  /** Otherwise only what the engine has left in the pod's cgroup is taken away. */
  readonly wanted: boolean;
  /** Why it is wanted, or why not. */
  readonly because: string;
  /** A pod that the engine cannot serve fails. */
  readonly strict: boolean;
  /** The UID by which kubelet knows the pod. */
  readonly podUid?: string;
  readonly containerId: string;
  /** Where the BPF file system is mounted. */
  readonly bpffs: string;
  /** Where pods' cgroups are looked for; absent for all of cgroup2. */
  readonly cgroupRoot?: string;
}

/**
 * Why other rules were installed instead, for metrics: no cgroup2, the pod's cgroup was not found,
 * `cgroup-v1-network` and `user-namespace` are about the pod; `rules` cannot be done by programs;
 * `refused` by the kernel (rights, lockdown, a program of others that allows no second); `failed`:
 * all else, so that it is worth a look.
 */
export type EbpfFallbackCode = CgroupProblem | "user-namespace" | "rules" | "refused" | "failed";

/** Why the engine was not used. */
export interface EbpfFallback {
  readonly code: EbpfFallbackCode;
  readonly reason: string;
}

/** What was seen, from which the choice follows. */
export interface EbpfObservations {
  readonly cgroup: PodCgroup;
  /** The pod has a user namespace of its own. */
  readonly foreignOwner: boolean;
  /** What the engine cannot do of the rules. */
  readonly cannot: readonly string[];
}

/** Decides; pure. */
export function whyNotEbpf(observed: EbpfObservations): EbpfFallback | undefined {
  if ("problem" in observed.cgroup) {
    return { code: observed.cgroup.problem, reason: observed.cgroup.reason };
  }
  if (observed.foreignOwner) {
    return {
      code: "user-namespace",
      reason: "the pod has a user namespace of its own (hostUsers: false), whose UIDs programs " +
        "do not see",
    };
  }
  if (observed.cannot.length > 0) {
    return { code: "rules", reason: observed.cannot.join("; ") };
  }
  return undefined;
}

/** What an attempt came to. */
export type EbpfAttempt =
  | { readonly result: ApplyResult; readonly fallback?: undefined }
  | { readonly fallback: EbpfFallback; readonly result?: undefined };

/** The engine for one pod. Its methods work in the network namespace of the calling thread. */
export class EbpfForPod {
  readonly #module: EbpfModule;
  readonly #cgroup: PodCgroup;
  readonly #engine: Engine | undefined;

  /**
   * Finds the pod's cgroup. The caller is in the host's namespaces.
   *
   * @param view what is on the machine; without it this looks
   * @throws {LinuxError} when `/proc` cannot be read
   */
  constructor(
    module: EbpfModule,
    readonly request: EbpfRequest,
    view: CgroupView = lookAtCgroups(),
  ) {
    this.#module = module;
    const { podUid, cgroupRoot, bpffs, containerId } = request;
    this.#cgroup = findPodCgroup(view, podUid, cgroupRoot);
    if ("problem" in this.#cgroup) return;
    this.#engine = new module.EbpfEngine({
      cgroup: this.#cgroup.path,
      // Elsewhere a pin would be an ordinary file, so that nothing would hold the program.
      ...(isMountOf(view.mounts, "bpf", bpffs)
        ? { pinFolder: module.pinFolderOf(bpffs, containerId) }
        : {}),
    });
  }

  /** The engine, when it is asked for and can serve the pod with these rules, else why not. */
  choose(ruleset: Ruleset): Engine | EbpfFallback {
    const engine = this.#engine;
    const why = whyNotEbpf({
      cgroup: this.#cgroup,
      foreignOwner: hasForeignOwner(),
      cannot: this.#module.cannot(ruleset),
    });
    if (why !== undefined) return why;
    if (engine === undefined) throw new Error("A cgroup was found, but no engine was made for it");
    return engine;
  }

  /**
   * Applies the rules. Whether the kernel can do it is found out by doing it.
   *
   * @throws {EngineError} when it cannot be done and the administrator wants no other rules then
   */
  apply(ruleset: Ruleset): EbpfAttempt {
    const chosen = this.choose(ruleset);
    let cause: EngineError | undefined;
    let fallback: EbpfFallback;
    if ("code" in chosen) fallback = chosen;
    else {
      try {
        return { result: chosen.apply(ruleset) };
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        cause = error;
        fallback = { code: wasRefused(error) ? "refused" : "failed", reason: error.message };
      }
    }
    if (!this.request.strict) return { fallback };
    throw new EngineError(
      `The engine "ebpf" cannot be used and "ebpf.strict" allows no other: ${fallback.reason}`,
      "ebpf",
      cause === undefined ? {} : { cause, differences: cause.differences },
    );
  }

  /**
   * Takes away what an earlier sandbox of the pod has left in its cgroup, which outlives sandboxes.
   *
   * @returns whether there was any
   * @throws {EngineError} when that cannot be done
   */
  remove(): boolean {
    return this.#engine?.remove() ?? false;
  }

  /**
   * What the pod's programs have redirected; nothing when there are none of ours.
   *
   * @throws {LinuxError} when the kernel refuses
   */
  readCounts(): RedirectCounts | undefined {
    if ("problem" in this.#cgroup) return undefined;
    const counters = this.#module.readCounters(this.#cgroup.path);
    if (counters === undefined) return undefined;
    const { outbound, inbound, dns } = counters;
    return { outbound, inbound, dns };
  }
}

function wasRefused(thrown: unknown): boolean {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error instanceof LinuxError) return error.code === "EPERM" || error.code === "EACCES";
  }
  return false;
}
