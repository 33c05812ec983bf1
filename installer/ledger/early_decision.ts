/** What is to be done about a meshed pod that the ledger does not know. Pure. */
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { Decision } from "../../src/pod/decision.ts";
import type { NodePod } from "./pod_life.ts";

/** `REPAIR_EARLY_PODS`. */
export type EarlyMode = "off" | "waiting" | "always";

/** What to do now. */
export type EarlyStep =
  /** It is none of this kind. */
  | "nothing"
  /** Its network may be being set up at this moment. */
  | "wait"
  /** Find out what its rules are, and only tell. */
  | "look"
  /** Give it its rules. */
  | "repair";

/** A report of the plugin comes before kubelet's word of a started container, by this much or more. */
const grace = 300;

/**
 * Decides about one pod.
 *
 * @param decision What the plugin would decide about it now.
 * @param seenFor Milliseconds since it was first seen in this state.
 */
export function decideEarly(
  { life }: NodePod,
  decision: Decision,
  mode: EarlyMode,
  seenFor: number,
): EarlyStep {
  if (mode === "off" || decision.kind === "skip") return "nothing";
  if (!life.isAlive || life.hostNetwork) return "nothing";
  // Until a container runs nobody knows whether ADD is over: kubelet starts none before.
  if (!life.hasStarted || life.ips.length === 0 || seenFor < grace) return "wait";
  return mode === "always" || !life.isServing ? "repair" : "look";
}

/** Tells whether an entry is about a pod; the name counts where the runtime does not tell the UID. */
export function isAbout(entry: LedgerEntry, { pod }: Pick<NodePod, "pod">): boolean {
  return entry.podUid === undefined
    ? entry.podNamespace === pod.namespace && entry.podName === pod.name
    : entry.podUid === pod.uid || entry.podUid === pod.annotations["kubernetes.io/config.hash"];
}

/** Finds the entry about a pod; of several the last counts: a sandbox that was made anew has its own. */
export function lastEntryAbout(
  entries: readonly LedgerEntry[],
  pod: Pick<NodePod, "pod">,
): LedgerEntry | undefined {
  return entries.filter((entry) => isAbout(entry, pod)).toSorted((a, b) => b.time - a.time)[0];
}

/**
 * Tells whether an entry stands in the ledger, with nothing later about another sandbox of its pod:
 * what a round began with may be minutes old.
 */
export function isLastWord(entry: LedgerEntry, entries: readonly LedgerEntry[]): boolean {
  const { sandbox, interfaceName, podNamespace, podName, podUid, time } = entry;
  const stands = entries.some((one) =>
    one.sandbox === sandbox && one.interfaceName === interfaceName && one.time === time
  );
  return stands && !entries.some((other) =>
    other.sandbox !== sandbox && other.time >= time &&
    (podUid === undefined || other.podUid === undefined
      ? other.podNamespace === podNamespace && other.podName === podName
      : other.podUid === podUid)
  );
}
