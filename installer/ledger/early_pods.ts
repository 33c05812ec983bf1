/**
 * Meshed pods that started while the plugin was not chained: found, proven, and given their rules while
 * nothing depends on their connections.
 */
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { Logger } from "../../src/log/log.ts";
import type { NamespaceIdentity } from "../../src/linux/namespace_identity.ts";
import { LostNamespaceError } from "../../src/linux/network_namespace.ts";
import type { Decision, Redirect } from "../../src/pod/decision.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { VERSION } from "../../src/version.ts";
import { driftText } from "./drift_text.ts";
import { decideEarly, type EarlyMode, isAbout } from "./early_decision.ts";
import type { Ledger } from "./ledger.ts";
import type { EarlyWork } from "./look.ts";
import type { PodEvent } from "./pod_events.ts";
import type { NodePod } from "./pod_life.ts";
import type { SeenProcess } from "./processes.ts";
import { proveNamespace, type ProvenNamespace } from "./proof.ts";
import type { HasResult } from "./runtime_results.ts";

/** Milliseconds between two tries with one pod, doubling up to the longest. */
const firstPause = 500;
const longestPause = 60_000;
/** Milliseconds for which an entry of the ledger counts without a look. */
const remembered = 60_000;
/**
 * Of the time between two looks at all processes, such a look may take one part in so many: while some
 * pod is new, and otherwise. A pod's author decides how many processes it has, and whether it is proven.
 */
const newShare = 20;
const oldShare = 1000;
/** Tries after which a pod is not new any more: half a minute. */
const newTries = 7;

/** What the search needs. */
export interface EarlyParts {
  readonly mode: EarlyMode;
  readonly ledger: Pick<Ledger, "read" | "put">;
  readonly log: Pick<Logger, "info" | "warn">;
  /** All pods of the node; nothing while they are not followed. */
  pods(): readonly NodePod[];
  /** What the plugin would decide about a pod. */
  decide(pod: NodePod): Decision;
  /** All processes of the node; takes a while where there are many. */
  processes(): readonly SeenProcess[];
  /** What the runtime keeps of its sandboxes; `undefined` when that is not seen. */
  hasResult(): HasResult | undefined;
  /** Whether the file of a namespace is there; `undefined` when its folder is not seen. */
  hasNamespace(path: string): boolean | undefined;
  /** Device and inode of the namespaces that are the node's, or this program's. */
  ownNamespaces(): ReadonlySet<string> | undefined;
  /** Works inside of the namespace. */
  work(proven: ProvenNamespace, pod: NodePod, decision: Redirect, repair: boolean): EarlyWork;
  counted(result: EarlyWork["kind"] | "failed"): void;
  tell(pod: NodePod, event: PodEvent): void;
  /** Milliseconds of a clock that is never set back. */
  clock(): number;
}

/** Tries after which a doubt is told of: a sandbox that is made anew has no process for a moment. */
const doubtTries = 4;

/** All processes as they were seen in one look, or why there was none. */
type SeenNow =
  | { readonly processes: readonly SeenProcess[]; readonly hasResult: HasResult | undefined }
  | { readonly doubt: string };

interface Candidate {
  readonly since: number;
  tries: number;
  next: number;
  /** What people were told last. */
  told: string;
}

/** Looks after pods that the ledger does not know. */
export class EarlyPods {
  readonly #candidates = new Map<string, Candidate>();
  /** UIDs that the ledger has; asked again now and then, since a sandbox can be made anew. */
  readonly #known = new Set<string>();
  #forget = 0;
  /** When all processes were last looked at, and how long it took. */
  #looked = { end: 0, took: 0 };
  /** Pods outside the mesh; a pod that changes is another object. */
  readonly #skipped = new WeakSet<NodePod>();

  constructor(private readonly parts: EarlyParts) {}

  /** Looks at all pods; cheap while nothing is new, so that it may be called all the time. */
  tick(): void {
    const { parts } = this;
    if (parts.mode === "off") return;
    const now = parts.clock();
    if (now >= this.#forget) {
      this.#known.clear();
      this.#forget = now + remembered;
    }
    const pods = parts.pods();
    const uids = new Set(pods.map(({ pod }) => pod.uid));
    for (const uid of this.#candidates.keys()) if (!uids.has(uid)) this.#candidates.delete(uid);
    let entries: readonly LedgerEntry[] | undefined;
    let seen: SeenNow | undefined;
    for (const pod of pods) {
      const { uid } = pod.pod;
      if (this.#known.has(uid) || this.#skipped.has(pod)) continue;
      const candidate = this.#candidates.get(uid) ?? this.#begin(uid, pod);
      if (candidate === undefined || now < candidate.next) continue;
      entries ??= parts.ledger.read().entries;
      if (
        entries.some((entry) => isAbout(entry, pod) && parts.hasNamespace(entry.netns) !== false)
      ) {
        this.#known.add(uid);
        this.#candidates.delete(uid);
        continue;
      }
      const decision = this.#decide(pod);
      if (decision?.kind !== "redirect") {
        this.#skipped.add(pod);
        continue;
      }
      const step = decideEarly(pod, decision, parts.mode, now - candidate.since);
      if (step === "nothing" || step === "wait") continue;
      const share = candidate.tries < newTries ? newShare : oldShare;
      if (seen === undefined && now < this.#looked.end + this.#looked.took * share) continue;
      seen ??= this.#see();
      this.#try(pod, decision, step === "repair", { candidate, pods, seen });
    }
  }

  #see(): SeenNow {
    const begin = this.parts.clock();
    try {
      return { processes: this.parts.processes(), hasResult: this.parts.hasResult() };
    } catch (error) {
      return { doubt: messageOf(error) };
    } finally {
      const end = this.parts.clock();
      this.#looked = { end, took: end - begin };
    }
  }

  /** The clock of a candidate begins when its network must have been set up. */
  #begin(uid: string, { life }: NodePod): Candidate | undefined {
    if (!life.hasStarted) return undefined;
    const candidate = { since: this.parts.clock(), tries: 0, next: 0, told: "" };
    this.#candidates.set(uid, candidate);
    return candidate;
  }

  /** What its author has written wrong keeps the plugin from starting it; here it is left alone. */
  #decide(pod: NodePod): Decision | undefined {
    try {
      return this.parts.decide(pod);
    } catch {
      return undefined;
    }
  }

  #try(
    pod: NodePod,
    decision: Redirect,
    repair: boolean,
    { candidate, pods, seen }: {
      readonly candidate: Candidate;
      readonly pods: readonly NodePod[];
      readonly seen: SeenNow;
    },
  ): void {
    const { parts } = this;
    const pause = Math.min(longestPause, firstPause * 2 ** Math.min(candidate.tries++, 10));
    const now = parts.clock();
    // Those that are not new any more are tried together, so that one look serves them all.
    candidate.next = candidate.tries < newTries
      ? now + pause
      : Math.ceil((now + pause / 2) / longestPause) * longestPause;
    let result: EarlyWork["kind"] | "failed" = "failed";
    try {
      const proof = "doubt" in seen
        ? seen
        : proveNamespace(pod, pods, seen.processes, parts.ownNamespaces(), seen.hasResult);
      const done: EarlyWork = "doubt" in proof
        ? { kind: "doubt", doubt: proof.doubt }
        : parts.work(proof, pod, decision, repair);
      result = done.kind;
      if ("doubt" in proof || done.kind === "doubt") {
        const doubt = done.kind === "doubt" ? done.doubt : "";
        const text = `Pod has no rules and gets none: ${doubt}`;
        if (candidate.tries >= doubtTries) this.#tell(pod, candidate, "NotRepaired", text);
      } else if (done.kind === "missing") {
        const text =
          `Pod started without its rules and its sidecar serves already, so it is left ` +
          `as it is: ${driftText(done.differences)}; recreate it`;
        this.#tell(pod, candidate, "NotCaptured", text);
      } else {
        this.#keep(pod, proof, decision, done);
        if (done.kind === "repaired") this.#repaired(pod, candidate);
      }
    } catch (error) {
      if (error instanceof LostNamespaceError) throw error;
      this.#tell(pod, candidate, "NotRepaired", `Pod could not get its rules: ${messageOf(error)}`);
    }
    parts.counted(result);
  }

  #keep(
    { pod }: NodePod,
    { sandbox, holder }: ProvenNamespace,
    { config }: Redirect,
    done: { readonly kind: "found" | "repaired"; engine: string; namespace: NamespaceIdentity },
  ): void {
    const entry: LedgerEntry = {
      sandbox,
      interfaceName: "eth0",
      network: "",
      podNamespace: pod.namespace,
      podName: pod.name,
      podUid: pod.uid,
      netns: `/proc/${holder.pid}/ns/net`,
      time: Date.now(),
      version: VERSION,
      outcome: {
        result: "redirected",
        engine: done.engine,
        namespace: done.namespace,
        config,
        by: done.kind === "repaired" ? "repair" : "adoption",
      },
    };
    this.parts.ledger.put(entry);
  }

  #repaired(pod: NodePod, { since }: Candidate): void {
    const milliseconds = Math.round(this.parts.clock() - since);
    const message = `Pod started without its rules and was repaired in ${milliseconds} ms`;
    this.parts.log.info(message, fieldsOf(pod));
    this.parts.tell(pod, { type: "Normal", reason: "Repaired", message });
  }

  #tell(pod: NodePod, candidate: Candidate, reason: string, message: string): void {
    if (candidate.told === message) return;
    candidate.told = message;
    this.parts.log.warn(message, fieldsOf(pod));
    this.parts.tell(pod, { type: "Warning", reason, message });
  }
}

function fieldsOf({ pod }: NodePod): Record<string, string> {
  return { namespace: pod.namespace, pod: pod.name };
}
