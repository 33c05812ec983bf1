/** What is known of each pod of the node, as one row for people and programs. Pure. */
import { createHash } from "node:crypto";
import type { RedirectCounts } from "../../src/engine/redirect_counts.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { Decision } from "../../src/pod/decision.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { driftText } from "./drift_text.ts";
import { isAbout, lastEntryAbout } from "./early_decision.ts";
import type { Look } from "./look.ts";
import type { NodePod } from "./pod_life.ts";

/** Whether a pod is captured. */
export type Meshed = "yes" | "no" | "starting" | "unknown";

/** One pod, or one sandbox that no pod of the API belongs to. */
export interface PodRow {
  readonly namespace: string;
  readonly name: string;
  readonly meshed: Meshed;
  /** Why it is so, in words. */
  readonly why: string;
  readonly engine?: string;
  /** How its rules compare with what was installed. */
  readonly rules?: "as installed" | "drifted" | "not seen" | "gone";
  /** What differs, or why nothing is seen. */
  readonly detail?: string;
  /** How many connections its rules have redirected since they were installed; absent: unknown. */
  readonly redirected?: RedirectCounts;
  /** Seconds since its rules were installed, else since the pod was made; absent when not known. */
  readonly ageSeconds?: number;
  readonly sandbox?: string;
  readonly netns?: string;
  /** First digits of the SHA-256 of the configuration that its rules were made from. */
  readonly configuration?: string;
  /** Version of the program that installed the rules. */
  readonly version?: string;
  /** Its annotations, or this node's settings, ask for other rules than those it started with. */
  readonly isOutdated?: boolean;
}

/** What rows are made from. */
export interface RowFacts {
  /** The node's pods; `undefined` when the API did not tell. */
  readonly pods: readonly NodePod[] | undefined;
  readonly entries: readonly LedgerEntry[];
  /** What the plugin would decide now; may throw for what a pod's author has written wrong. */
  decide(pod: NodePod): Decision;
  /** Compares a sandbox's rules with its entry. */
  look(entry: LedgerEntry): Look;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** Returns the rows by namespace and name. */
export function podRows(facts: RowFacts): PodRow[] {
  const { pods, entries } = facts;
  const rows = (pods ?? []).map((pod) => rowOfPod(pod, facts));
  const lost = entries.filter((entry) => !(pods ?? []).some((pod) => isAbout(entry, pod)));
  const why = pods === undefined ? undefined : "its pod is not in the API any more";
  rows.push(...lost.map((entry) => rowOfEntry(entry, facts, why)));
  return rows.sort((a, b) => compare(a.namespace, b.namespace) || compare(a.name, b.name));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function rowOfPod(pod: NodePod, facts: RowFacts): PodRow {
  const { namespace, name } = pod.pod;
  const entry = lastEntryAbout(facts.entries, pod);
  const age = pod.life.created === 0 ? {} : secondsSince(pod.life.created, facts.now);
  const row = (meshed: Meshed, why: string): PodRow => ({ namespace, name, meshed, why, ...age });
  if (pod.life.hostNetwork) return row("no", "it has the node's network");
  let decision: Decision | undefined;
  let problem = "";
  try {
    decision = facts.decide(pod);
  } catch (error) {
    problem = messageOf(error);
  }
  if (entry !== undefined) {
    const isOutdated = decision?.kind === "redirect" && entry.outcome.result === "redirected" &&
      digestOf(withoutResolvers(decision.config)) !==
        digestOf(withoutResolvers(entry.outcome.config));
    return { ...rowOfEntry(entry, facts), ...(isOutdated ? { isOutdated } : {}) };
  }
  if (decision?.kind === "skip") return row("no", decision.reason);
  if (!pod.life.isAlive) return row("unknown", "it has ended");
  if (!pod.life.hasStarted) return row("starting", problem || "none of its containers has started");
  return row(
    "unknown",
    problem || "it should be meshed, and the ledger has nothing about it: it started while the " +
        "plugin was not chained, or its report is lost",
  );
}

/** The runtime told the plugin the pod's resolvers, and tells nobody else. */
function withoutResolvers(config: RedirectConfig): RedirectConfig {
  return { ...config, dns: { ...config.dns, servers: [] } };
}

function rowOfEntry(entry: LedgerEntry, facts: RowFacts, remark?: string): PodRow {
  const { podNamespace: namespace, podName: name, outcome, sandbox, netns, version } = entry;
  const common = { namespace, name, sandbox, netns, ...secondsSince(entry.time, facts.now) };
  if (outcome.result === "skipped") {
    const why = `it was skipped when it started (${outcome.reason})`;
    return { ...common, meshed: "no", why: remark === undefined ? why : `${why}; ${remark}` };
  }
  const { engine, config, by } = outcome;
  const installed = by === "repair"
    ? "its rules were installed after it had started"
    : by === "adoption"
    ? "its rules were found in its namespace"
    : "its rules were installed when it started";
  return {
    ...common,
    meshed: "yes",
    why: remark === undefined ? installed : `${installed}; ${remark}`,
    engine,
    version,
    configuration: digestOf(config),
    ...rulesOf(facts.look(entry)),
  };
}

function rulesOf(look: Look): Pick<PodRow, "rules" | "detail" | "redirected"> {
  switch (look.kind) {
    case "equal":
      return { rules: "as installed", ...redirectedOf(look) };
    case "drifted":
      return { rules: "drifted", detail: driftText(look.differences), ...redirectedOf(look) };
    case "repaired":
      return { rules: "drifted", detail: driftText(look.differences) };
    case "gone":
      return { rules: "gone", detail: "its network namespace is not there" };
    case "unseen":
      return { rules: "not seen", detail: look.reason };
  }
}

function redirectedOf({ counts }: { readonly counts?: RedirectCounts }) {
  return counts === undefined ? {} : { redirected: counts };
}

function secondsSince(time: number, now: number): { readonly ageSeconds: number } {
  return { ageSeconds: Math.max(0, Math.round((now - time) / 1000)) };
}

/** Names a configuration: equal for equal ones, whatever the order of their keys. */
export function digestOf(config: RedirectConfig): string {
  const text = JSON.stringify(
    config,
    (_, value) =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => compare(a, b)))
        : value,
  );
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}
