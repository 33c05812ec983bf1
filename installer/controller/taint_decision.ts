/** Whether a node gets or loses the taint: the decision table, without any clock or cluster. */

/** What is known about a node. */
export interface TaintFacts {
  /** Whether the node has a taint of our key and effect, whoever put it there. */
  readonly tainted: boolean;
  /** Whether that one is ours, by the annotation beside it. */
  readonly ours: boolean;
  /** Whether the CNI's pod on it is running and ready. */
  readonly ready: boolean;
  /** Whether the agent in it says itself that the plugin is gone. */
  readonly denies: boolean;
  /** Whether the DaemonSet can bring the plugin here. */
  readonly place: Place;
  /** Whether the plugin was there before, so that it outlives its agent's absence. */
  readonly readyBefore: boolean;
  /** For how long there has been no ready pod, in milliseconds. */
  readonly unreadyMilliseconds: number;
}

/** Whether the DaemonSet can bring the plugin to a node. */
export type Place =
  | "possible"
  /** Its node selector, affinity, system or architecture excludes the node. */
  | "never"
  /** There is no DaemonSet (any longer). */
  | "no-daemon-set"
  /** Its pods do not tolerate the taint, which would lock them out. */
  | "not-tolerated";

/** What is to be done. */
export type TaintDecision =
  | { readonly action: "add" | "remove" }
  /** `againMilliseconds`: when to decide again although nothing happens. */
  | { readonly action: "none"; readonly againMilliseconds?: number };

/**
 * Decides.
 *
 * @param graceMilliseconds For so long a node where the plugin was is trusted to have it still.
 */
export function decideTaint(facts: TaintFacts, graceMilliseconds: number): TaintDecision {
  if (facts.place !== "possible") {
    // A taint of somebody else, such as a control plane with the same controller, is left to them.
    return { action: facts.tainted && facts.ours ? "remove" : "none" };
  }
  if (facts.ready) return { action: facts.tainted ? "remove" : "none" };
  if (facts.tainted) return { action: "none" };
  if (facts.denies || !facts.readyBefore) return { action: "add" };
  const left = graceMilliseconds - facts.unreadyMilliseconds;
  return left <= 0 ? { action: "add" } : { action: "none", againMilliseconds: left };
}
