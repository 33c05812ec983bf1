/** An engine worked by hand on one network namespace: what `apply`, `check` and `remove` do. */
import type { EngineSetting } from "../../src/engine/choice/select.ts";
import {
  applyWithSelectedEngine,
  findRules,
  removeAllRules,
  type SelectedApplyResult,
  verifyRules,
} from "../../src/engine/choice/work.ts";
import type { Difference } from "../../src/engine/engine.ts";
import {
  isCurrentNetworkNamespace,
  withNetworkNamespace,
} from "../../src/linux/network_namespace.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import type { EbpfCounters, EbpfModule } from "../../src/engine/ebpf/interface.ts";
import { exists } from "../host/paths.ts";
import { checkPrograms } from "./check_programs.ts";

/** What stands in a namespace compared with what should. */
export interface RulesCheck {
  /** Whose rules were compared. */
  readonly engine: string;
  readonly differences: readonly Difference[];
  /** What its eBPF programs have counted; absent when it has none. */
  readonly counts?: EbpfCounters;
}

/** Where a pod's eBPF programs are looked for. */
export interface ProgramPlace {
  readonly ebpf: EbpfModule;
  /** Folder of the pod's cgroup. */
  readonly cgroup: string;
}

/**
 * Installs the rules of a configuration in a namespace, in place of earlier ones.
 *
 * @param netns file of the namespace, for example `/run/netns/x` or `/proc/1234/ns/net`
 * @throws {EngineError} when it cannot be done
 * @throws {Error} when the namespace cannot be entered, or is this process's own
 */
export function applyRules(
  netns: string,
  config: RedirectConfig,
  engine: EngineSetting,
): SelectedApplyResult {
  return inOtherNamespace(
    netns,
    () => applyWithSelectedEngine(engine, (facts) => compileRuleset(config, facts)),
  );
}

/**
 * Compares the rules in a namespace with those of a configuration. With `auto`, rules that any
 * engine has installed are as good.
 *
 * @param netns file of the namespace
 * @param config what should be there; without it nothing of ours should
 * @param place where programs may be; those that are there must do all, else rules must
 * @throws as {@linkcode applyRules}
 */
export function checkRules(
  netns: string,
  config: RedirectConfig | undefined,
  setting: EngineSetting,
  place?: ProgramPlace,
): RulesCheck {
  return inOtherNamespace(netns, (): RulesCheck => {
    const programs = place && checkPrograms(place.ebpf, place.cgroup, config);
    if (programs !== undefined) {
      // Where no programs should be, no rules should be either.
      const rules = config === undefined ? findRules() : [];
      return { engine: "ebpf", ...programs, differences: [...programs.differences, ...rules] };
    }
    return config === undefined ? { engine: "any engine", differences: findRules() } : verifyRules(
      setting,
      (facts) => compileRuleset(config, facts),
      setting === "auto" ? "any engine" : "the chosen engine",
    );
  });
}

/**
 * Removes the rules of all engines, and of the reference implementation, from a namespace.
 *
 * @param netns file of the namespace
 * @returns names of the engines that had rules there
 * @throws as {@linkcode applyRules}
 */
export function removeRules(netns: string): string[] {
  return inOtherNamespace(netns, () => removeAllRules());
}

/** Works in a namespace that must not be this process's own, which is the node's as a rule. */
function inOtherNamespace<T>(netns: string, work: () => T): T {
  if (exists(netns) && isCurrentNetworkNamespace(netns)) {
    throw new Error(
      `Network namespace "${netns}" is this process's own; name that of a pod, for example ` +
        `"/proc/PID/ns/net" of one of its processes`,
    );
  }
  return withNetworkNamespace(netns, work);
}
