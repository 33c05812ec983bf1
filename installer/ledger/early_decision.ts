/** What is to be done about a meshed pod that the ledger does not know. Pure. */
import { own } from "../../src/json/record.ts";
import type { Pod } from "../../src/kubernetes/pod.ts";
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

/**
 * The UIDs by which kubelet may know a pod. A static pod's is the hash of its file, which stands in an
 * annotation of its mirror; of any other pod that annotation is its author's word, which could name
 * another pod. Kubelet runs no mirror of which it has no file.
 */
export function uidsOf({ uid, annotations }: Pick<Pod, "uid" | "annotations">): readonly string[] {
  const isMirror = Object.hasOwn(annotations, "kubernetes.io/config.mirror");
  const hash = isMirror ? own(annotations, "kubernetes.io/config.hash") : undefined;
  return typeof hash === "string" ? [uid, hash] : [uid];
}

/** Tells whether an entry is about a pod; the name counts where the runtime does not tell the UID. */
export function isAbout(entry: LedgerEntry, { pod }: Pick<NodePod, "pod">): boolean {
  return entry.podUid === undefined
    ? entry.podNamespace === pod.namespace && entry.podName === pod.name
    : uidsOf(pod).includes(entry.podUid);
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
