/**
 * The work of the engines on the network namespace that the calling thread is in: one look at what is
 * there, from which the rules and the engine follow, then the change, one at a time per namespace.
 */
import type { NamespaceFacts, Ruleset } from "../../redirect/ruleset.ts";
import { withNetworkNamespaceLock } from "../../linux/network_namespace_lock.ts";
import {
  type ApplyResult,
  type Difference,
  type Engine,
  EngineError,
  type EngineName,
} from "../engine.ts";
import { IptablesEngine, type IptablesEngineOptions } from "../iptables/iptables_engine.ts";
import type { Survey } from "../iptables/survey.ts";
import { NftablesEngine } from "../nftables/nftables_engine.ts";
import type { EbpfFallback, EbpfForPod } from "./ebpf.ts";
import { readNamespaceFacts } from "./facts.ts";
import { lookAtNamespace } from "./nftables_alone.ts";
import { type EngineSetting, selectEngine } from "./select.ts";

/** What an apply with a chosen engine did. */
export interface SelectedApplyResult extends ApplyResult {
  /** Why this engine. */
  readonly reason: string;
  /** Other engines whose earlier rules were removed. */
  readonly replaced: readonly EngineName[];
  /** Why the engine `ebpf`, which was asked for, was not used. */
  readonly fallback?: EbpfFallback;
}

/** What the work may use; only tests set anything of the iptables engine. */
export interface WorkOptions extends IptablesEngineOptions {
  /** The engine `ebpf` for this pod, where it is asked for or may have left something. */
  readonly ebpf?: EbpfForPod;
}

/** Compiles the rules for a namespace. */
export type Compile = (facts: NamespaceFacts) => Ruleset;

/**
 * Chooses an engine, applies the rules with it, and removes the rules of the other engine after that,
 * so that there is no moment without rules.
 *
 * @param setting from the network configuration
 * @throws {EngineError} when the rules cannot be applied, or when earlier rules of another engine
 * cannot be removed; the new rules are in force then, so that no traffic leaves the mesh
 * @throws {LinuxError} when the namespace cannot be examined, or another process works on it
 */
export function applyWithSelectedEngine(
  setting: EngineSetting,
  compile: Compile,
  options: WorkOptions = {},
): SelectedApplyResult {
  return withNetworkNamespaceLock((lock) => {
    const survey = lookAtNamespace();
    const ruleset = compile(readNamespaceFacts(survey));
    const families = ruleset.families.map(({ family }) => family);
    const { ebpf } = options;
    const attempt = ebpf?.request.wanted ? ebpf.apply(ruleset) : undefined;
    if (ebpf !== undefined && attempt?.result !== undefined) {
      const { result } = attempt;
      const others = [new NftablesEngine(), new IptablesEngine({ ...options, survey, lock })]
        // Its own rules for incoming connections are in the table of the engine nftables then.
        .filter(({ name }) => name !== "nftables" || result.backend !== "nftables");
      return {
        ...result,
        reason: ebpf.request.because,
        replaced: others.filter((other) =>
          mayHaveRules(other, survey) && removeOther(other, result.engine)
        ).map(({ name }) => name),
      };
    }
    const chosen = selectEngine(setting, survey, families, { ...options, lock });
    const result = chosen.engine.apply(ruleset);
    const replaced = mayHaveRules(chosen.other, survey) &&
        removeOther(chosen.other, result.engine)
      ? [chosen.other.name]
      : [];
    return withoutPrograms({ ...result, reason: chosen.reason, replaced }, ebpf, attempt?.fallback);
  });
}

/** Takes away what the engine `ebpf` left in an earlier sandbox of the pod. */
function withoutPrograms(
  result: SelectedApplyResult,
  ebpf: EbpfForPod | undefined,
  fallback: EbpfFallback | undefined,
): SelectedApplyResult {
  if (ebpf === undefined) return result;
  const kept = fallback === undefined ? result : { ...result, fallback };
  try {
    return ebpf.remove() ? { ...kept, replaced: [...kept.replaced, "ebpf"] } : kept;
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    // Programs of an earlier sandbox send connections to the same sidecar, so the pod may start.
    const note = `Programs of the engine "ebpf" could not be looked for: ${error.message}`;
    return { ...kept, notes: [...kept.notes, note] };
  }
}

/** What stands in a namespace compared with what should. */
export interface RulesCheck {
  /** Whose rules were compared. */
  readonly engine: EngineName;
  readonly differences: readonly Difference[];
}

/**
 * Compares what is there with the rules, with the engine that would be chosen now.
 *
 * @param accept whether what the other engine has installed, under another setting or on another
 * kernel, is as good
 * @throws as {@linkcode applyWithSelectedEngine}
 */
export function verifyRules(
  setting: EngineSetting,
  compile: Compile,
  accept: "any engine" | "the chosen engine",
  options: WorkOptions = {},
): RulesCheck {
  const survey = lookAtNamespace();
  const ruleset = compile(readNamespaceFacts(survey));
  const families = ruleset.families.map(({ family }) => family);
  const ebpf = options.ebpf?.choose(ruleset);
  const programs = ebpf === undefined || "code" in ebpf ? undefined : ebpf;
  if (programs !== undefined && options.ebpf?.request.wanted) {
    const differences = differencesOf(programs, ruleset);
    // A pod may have got other rules when it started, and keeps them as long as it runs.
    const decided = differences !== undefined &&
      (differences.length === 0 || accept === "the chosen engine" || holdsRules(programs));
    if (decided) return { engine: programs.name, differences };
  }
  const { engine, other } = selectEngine(setting, survey, families);
  const differences = engine.verify(ruleset);
  if (differences.length === 0 || accept === "the chosen engine") {
    return { engine: engine.name, differences };
  }
  for (const one of programs === undefined ? [other] : [other, programs]) {
    const others = differencesOf(one, ruleset);
    // Rules that are there, though not quite right, say more than those of an engine that has none.
    const better = others !== undefined && (others.length === 0 ||
      (holdsRules(one) && !holdsRules(engine)));
    if (better) return { engine: one.name, differences: others };
  }
  return { engine: engine.name, differences };
}

/** Lists what is there of any engine, and of the reference implementation. */
export function findRules(): Difference[] {
  const survey = lookAtNamespace();
  return [new NftablesEngine(), new IptablesEngine({ survey })]
    .filter((engine) => mayHaveRules(engine, survey))
    .flatMap((engine) => engine.verify(NOTHING));
}

const NOTHING: Ruleset = { families: [], comments: false, ipv6PassthroughAddress: false };

function holdsRules(engine: Engine): boolean {
  return (differencesOf(engine, NOTHING) ?? []).length > 0;
}

/** `undefined` for an engine that cannot work here, and so has not installed anything here. */
function differencesOf(engine: Engine, ruleset: Ruleset): readonly Difference[] | undefined {
  try {
    return engine.verify(ruleset);
  } catch (error) {
    if (error instanceof EngineError) return undefined;
    throw error;
  }
}

/**
 * Removes the rules of all engines, and of the reference implementation.
 *
 * @returns the engines that had rules there
 * @throws as {@linkcode applyWithSelectedEngine}
 */
export function removeAllRules(options: IptablesEngineOptions = {}): EngineName[] {
  return withNetworkNamespaceLock((lock) => {
    const survey = lookAtNamespace();
    const engines = [new NftablesEngine(), new IptablesEngine({ ...options, survey, lock })];
    return engines.filter((engine) => mayHaveRules(engine, survey) && engine.remove())
      .map(({ name }) => name);
  });
}

/** The iptables engine finds out itself, from the same survey. */
function mayHaveRules({ name }: Engine, { native }: Survey): boolean {
  return name !== "nftables" || native;
}

function removeOther(other: Engine, engine: EngineName): boolean {
  try {
    return other.remove();
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw new EngineError(
      `The rules of engine "${engine}" are installed, but earlier ones could not be removed: ` +
        error.message,
      other.name,
      { cause: error },
    );
  }
}
