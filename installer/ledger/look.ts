/**
 * Looks into the network namespace of a running pod, and puts its rules back. Nothing is done before
 * the namespace has proven, from inside, that it is the one that is meant.
 */
import { readRedirectCounts } from "../../src/engine/choice/counts.ts";
import type { EbpfForPod } from "../../src/engine/choice/ebpf.ts";
import { readNamespaceFacts } from "../../src/engine/choice/facts.ts";
import { rulesMark } from "../../src/engine/choice/rules_mark.ts";
import type { EngineSetting } from "../../src/engine/choice/select.ts";
import { applyWithSelectedEngine, verifyRules } from "../../src/engine/choice/work.ts";
import { PROGRAMS_NAMESPACE } from "../../src/engine/ebpf/interface.ts";
import type { Difference } from "../../src/engine/engine.ts";
import type { RedirectCounts } from "../../src/engine/redirect_counts.ts";
import type { LedgerEntry, Redirected } from "../../src/ledger/entry.ts";
import { listAddresses } from "../../src/linux/addresses.ts";
import { LinuxError } from "../../src/linux/errno.ts";
import { FileDescriptor, openForReading } from "../../src/linux/libc.ts";
import {
  isSameIdentity,
  type NamespaceIdentity,
  networkNamespaceIdentity,
} from "../../src/linux/namespace_identity.ts";
import {
  isCurrentNetworkNamespace,
  LostNamespaceError,
  withNetworkNamespace,
} from "../../src/linux/network_namespace.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import type { NamespaceFacts } from "../../src/redirect/ruleset.ts";
import { messageOf } from "../../src/text/message_of.ts";
import type { ProgramsOf } from "./pod_programs.ts";
import type { SeenProcess } from "./processes.ts";
import { seeProcess } from "./processes.ts";
import { addressDoubt, isUnchanged, type ProvenNamespace } from "./proof.ts";

/** What a look into a namespace that the ledger knows has found. */
export type Look =
  /** The rules are those of the ledger. */
  | { readonly kind: "equal"; readonly counts?: RedirectCounts }
  | {
    readonly kind: "drifted";
    readonly differences: readonly Difference[];
    readonly counts?: RedirectCounts;
    /** Why they were not put back although that was asked for. */
    readonly notRepaired?: string;
  }
  /** They were not, and are again. */
  | { readonly kind: "repaired"; readonly differences: readonly Difference[] }
  /** The file is gone, or leads to another namespace: this sandbox is gone. */
  | { readonly kind: "gone" }
  /** It cannot be found out. */
  | { readonly kind: "unseen"; readonly reason: string };

/** What a look does besides comparing. */
export interface LookOptions {
  /** Whether to put the rules back when they differ; the engine does that in one step. */
  readonly repair?: boolean;
  /** Asked before that: whether the entry still is the ledger's last word about the pod. */
  readonly isLast?: () => boolean;
  /** Whether to read how much was redirected. */
  readonly counts?: boolean;
  /**
   * Marks of rules that were as they should be, by sandbox: where it is still the same, rules of
   * iptables are not compared again, since that takes their tools.
   */
  readonly unchanged?: Map<string, string>;
  /** Finds the programs of a pod; without it they are not looked at. */
  readonly ebpfOf?: ProgramsOf;
}

/**
 * Compares the rules of a sandbox with its entry.
 *
 * @param path File of its network namespace, as this process sees it.
 */
export function lookAtSandbox(path: string, entry: LedgerEntry, options: LookOptions = {}): Look {
  const { outcome } = entry;
  if (outcome.result !== "redirected") return { kind: "unseen", reason: "It was skipped" };
  let entered = false;
  try {
    const engine = engineOf(entry, outcome, options);
    if (engine === undefined) {
      return {
        kind: "unseen",
        reason: `Rules of engine "${outcome.engine}" are not compared here`,
      };
    }
    if (isCurrentNetworkNamespace(path)) return { kind: "gone" };
    return withNetworkNamespace(path, (): Look => {
      entered = true;
      if (!isSameIdentity(networkNamespaceIdentity(), outcome.namespace)) return { kind: "gone" };
      // Made before the comparison, so that what changes meanwhile is compared the next time.
      const mark = engine === "iptables" && options.unchanged !== undefined
        ? markOf(entry)
        : undefined;
      if (mark !== undefined && options.unchanged?.get(entry.sandbox) === mark) {
        return { kind: "equal" };
      }
      const differences = differencesOf(engine, outcome.config);
      if (typeof differences === "string") return { kind: "unseen", reason: differences };
      const counts = options.counts === true
        ? readRedirectCounts(engine, outcome.config)
        : undefined;
      const counted = counts === undefined ? {} : { counts };
      if (differences.length === 0) {
        if (mark !== undefined) remember(options.unchanged, entry.sandbox, mark);
        return { kind: "equal", ...counted };
      }
      if (options.repair !== true) return { kind: "drifted", differences, ...counted };
      const notRepaired = repairHere(engine, outcome.config, differences, options);
      return notRepaired === undefined
        ? { kind: "repaired", differences }
        : { kind: "drifted", differences, ...counted, notRepaired };
    });
  } catch (error) {
    if (error instanceof LostNamespaceError) throw error;
    const isGone = !entered && isMissing(error) && hasFolder(path);
    return isGone ? { kind: "gone" } : { kind: "unseen", reason: messageOf(error) };
  }
}

/** Most marks that are kept: of sandboxes that are gone some stay. */
const mostMarks = 4096;

function remember(marks: Map<string, string> | undefined, sandbox: string, mark: string): void {
  if (marks === undefined) return;
  if (marks.size >= mostMarks) marks.clear();
  marks.set(sandbox, mark);
}

/** Of the rules here and of what they are compared with: a later call may have asked for others. */
function markOf({ outcome }: LedgerEntry): string | undefined {
  const mark = rulesMark();
  return mark && `${mark} ${JSON.stringify(outcome)}`;
}

type LookedAt = "nftables" | "iptables" | EbpfForPod;

function engineOf(
  entry: LedgerEntry,
  { engine }: Redirected,
  { ebpfOf }: LookOptions,
): LookedAt | undefined {
  if (engine === "ebpf") return ebpfOf?.(entry);
  return engine === "nftables" || engine === "iptables" ? engine : undefined;
}

/** Returns the differences, or why they cannot be found out. */
function differencesOf(engine: LookedAt, config: RedirectConfig): readonly Difference[] | string {
  if (typeof engine === "string") {
    return verifyRules(engine, (facts) => compileRuleset(config, facts), "the chosen engine")
      .differences;
  }
  const ruleset = compileRuleset(config, readNamespaceFacts());
  const programs = engine.choose(ruleset);
  return "code" in programs ? programs.reason : programs.verify(ruleset);
}

/** Puts the rules back; returns why not. */
function repairHere(
  engine: LookedAt,
  config: RedirectConfig,
  differences: readonly Difference[],
  { isLast }: LookOptions,
): string | undefined {
  // A pod's group outlives its sandboxes: these programs may be those of the sandbox that came after.
  if (differences.some(({ object }) => object === PROGRAMS_NAMESPACE)) {
    return "the programs are those of another sandbox of the pod";
  }
  try {
    if (isLast?.() === false) return "the ledger has something later about the pod";
    const compile = (facts: NamespaceFacts) => compileRuleset(config, facts);
    if (typeof engine === "string") applyWithSelectedEngine(engine, compile);
    else applyWithSelectedEngine("auto", compile, { ebpf: engine });
    return undefined;
  } catch (error) {
    if (error instanceof LostNamespaceError) throw error;
    return messageOf(error);
  }
}

/** A plain file in its place need not say that the sandbox is gone: its mount may not be seen here. */
function isMissing(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound ||
    error instanceof LinuxError && error.code === "ENOENT";
}

/**
 * Tells whether the file of a namespace is there; `undefined` when its folder is not seen, as in a
 * container without that mount.
 */
export function hasNamespaceFile(path: string): boolean | undefined {
  if (!hasFolder(path)) return undefined;
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    return error instanceof Deno.errors.NotFound ? false : undefined;
  }
}

function hasFolder(path: string): boolean {
  try {
    return Deno.statSync(path.slice(0, path.lastIndexOf("/"))).isDirectory;
  } catch {
    return false;
  }
}

/** What was done in the namespace of a pod that the ledger does not know. */
export type EarlyWork =
  /** Its rules were there, and nobody had told. */
  | { readonly kind: "found"; readonly engine: string; readonly namespace: NamespaceIdentity }
  | { readonly kind: "missing"; readonly differences: readonly Difference[] }
  | { readonly kind: "repaired"; readonly engine: string; readonly namespace: NamespaceIdentity }
  | { readonly kind: "doubt"; readonly doubt: string };

/**
 * Works in a namespace that is proven to be a pod's.
 *
 * @param proven The proof, up to the addresses.
 * @param ips The pod's addresses; all must be in the namespace.
 * @param repair Whether to install the rules when they are not there.
 * @param see Looks at a process again; only tests need another one.
 * @throws {EngineError} when the rules cannot be compared or installed; nothing is changed then.
 * @throws {LinuxError} when the namespace cannot be entered.
 */
export function workInProven(
  { holder, namespace }: ProvenNamespace,
  ips: readonly string[],
  { setting, config, programs }: {
    readonly setting: EngineSetting;
    readonly config: RedirectConfig;
    /** Programs that the pod may have got from a call whose report was lost. */
    readonly programs?: EbpfForPod;
  },
  repair: boolean,
  see: (pid: number) => SeenProcess | undefined = seeProcess,
): EarlyWork {
  using file = openNamespaceOf(holder);
  if (file === undefined) return { kind: "doubt", doubt: "its sandbox has ended" };
  // The number of a process that has ended is given to another one: what was opened may be its.
  const { dev, ino } = Deno.statSync(`/proc/self/fd/${file.number}`);
  if (`${dev}:${ino}` !== namespace || !isUnchanged(holder, see(holder.pid))) {
    return { kind: "doubt", doubt: "its sandbox has changed meanwhile" };
  }
  if (isCurrentNetworkNamespace(file)) {
    return { kind: "doubt", doubt: "it is the node's namespace" };
  }
  return withNetworkNamespace(file, (): EarlyWork => {
    const doubt = addressDoubt(ips, listAddresses().map(({ address }) => address));
    if (doubt !== undefined) return { kind: "doubt", doubt };
    const identity = networkNamespaceIdentity();
    const compile = (facts: NamespaceFacts) => compileRuleset(config, facts);
    const options = programs === undefined ? {} : { ebpf: programs };
    const { engine, differences } = verifyRules(setting, compile, "any engine", options);
    if (differences.length === 0) return { kind: "found", engine, namespace: identity };
    if (!repair) return { kind: "missing", differences };
    const done = applyWithSelectedEngine(setting, compile, options);
    return { kind: "repaired", engine: done.engine, namespace: identity };
  });
}

function openNamespaceOf({ pid }: SeenProcess): FileDescriptor | undefined {
  try {
    return openForReading(`/proc/${pid}/ns/net`);
  } catch (error) {
    if (error instanceof LinuxError && ["ENOENT", "ESRCH"].includes(error.code)) return undefined;
    throw error;
  }
}
