/** An engine worked by hand on one network namespace: what `apply`, `check` and `remove` do. */
import type { Difference } from "../../src/engine/engine.ts";
import { readNamespaceFacts } from "../../src/engine/facts.ts";
import {
  applyWithSelectedEngine,
  type EngineSetting,
  type SelectedApplyResult,
  selectEngine,
} from "../../src/engine/select.ts";
import {
  isCurrentNetworkNamespace,
  withNetworkNamespace,
} from "../../src/linux/network_namespace.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import { exists } from "../host/paths.ts";

/** What stands in a namespace compared with what should. */
export interface RulesCheck {
  /** Whose rules were compared. */
  readonly engine: string;
  readonly differences: readonly Difference[];
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
    () => applyWithSelectedEngine(engine, compileRuleset(config, readNamespaceFacts())),
  );
}

/**
 * Compares the rules in a namespace with those of a configuration. With `auto`, rules that any
 * engine has installed are as good.
 *
 * @param netns file of the namespace
 * @param config what should be there; without it nothing of ours should
 * @throws as {@linkcode applyRules}
 */
export function checkRules(
  netns: string,
  config: RedirectConfig | undefined,
  setting: EngineSetting,
): RulesCheck {
  return inOtherNamespace(netns, () => {
    const { engine, others } = selectEngine(setting);
    const nothing = { families: [], comments: false, ipv6PassthroughAddress: false };
    if (config === undefined) {
      const differences = [engine, ...others].flatMap((one) => one.verify(nothing));
      return { engine: "any engine", differences };
    }
    const ruleset = compileRuleset(config, readNamespaceFacts());
    // Rules that are there, though not quite right, say more than those of an engine that has none.
    const holder = setting === "auto"
      ? [engine, ...others].find((one) => one.verify(nothing).length > 0) ?? engine
      : engine;
    return { engine: holder.name, differences: holder.verify(ruleset) };
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
  return inOtherNamespace(netns, () => {
    const { engine, others } = selectEngine("nftables");
    return [engine, ...others].filter((one) => one.remove()).map(({ name }) => name);
  });
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
