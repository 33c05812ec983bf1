/** Rules that were compiled before: the pods of a node differ in few of their settings. */
import { compileRuleset } from "../../src/redirect/compile.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import type { NamespaceFacts, Ruleset } from "../../src/redirect/ruleset.ts";

/** Rulesets that are kept. Each is some 50 KiB together with what an engine makes of it. */
const most = 16;

/** Compiles rules, or gives those that were compiled from the same configuration and facts. */
export class CompiledRules {
  /** In the order of their last use. */
  readonly #kept = new Map<string, Ruleset>();

  /** Returns the rules, which nobody may change. */
  compile(config: RedirectConfig, facts: NamespaceFacts): Ruleset {
    const key = JSON.stringify([config, facts]);
    const ruleset = this.#kept.get(key) ?? compileRuleset(config, facts);
    this.#kept.delete(key);
    this.#kept.set(key, ruleset);
    if (this.#kept.size > most) {
      for (const oldest of this.#kept.keys()) {
        this.#kept.delete(oldest);
        break;
      }
    }
    return ruleset;
  }
}
