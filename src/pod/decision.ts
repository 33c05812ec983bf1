/** The result of the plugin's decision about a pod. */
import type { RedirectConfig } from "../redirect/config.ts";
import type { EbpfWish } from "./ebpf_wish.ts";

/** Why a pod is skipped; texts are for people, the code is for metrics. */
export interface Skip {
  readonly kind: "skip";
  readonly code:
    | "not-a-pod"
    | "excluded-namespace"
    | "init-container"
    | "no-sidecar"
    | "not-injected";
  readonly reason: string;
}

/** The pod is meshed; this is its configuration. */
export interface Redirect {
  readonly kind: "redirect";
  readonly config: RedirectConfig;
  /** What was ignored or bounded, and what rules cannot do for this pod, one sentence each. */
  readonly warnings: readonly string[];
  /** Key path as in the config annotation → where the effective value came from. */
  readonly origins: ReadonlyMap<string, string>;
  /** What the pod says about the engine `ebpf`. */
  readonly ebpf?: EbpfWish;
  /** The UID by which kubelet knows the pod; absent for a mirror of a static pod, which has another. */
  readonly kubeletUid?: string;
}

/** What to do with a pod. */
export type Decision = Skip | Redirect;
