/**
 * The engine for kernels and sites that want iptables: it gives one text per family to the host's
 * `iptables-restore`, and reads the result back with `iptables-save`.
 */
import type { IpFamily } from "../../ip/address.ts";
import type { Ruleset } from "../../redirect/ruleset.ts";
import type { ApplyResult, Difference, Engine } from "../engine.ts";
import type { CountedRedirect } from "../redirect_counts.ts";
import { type IptablesEngineOptions, IptablesRun } from "./iptables_run.ts";

export type { IptablesEngineOptions };

/** Installs rules with the host's iptables tools. */
export class IptablesEngine implements Engine {
  readonly name = "iptables";
  readonly #options: IptablesEngineOptions;

  constructor(options: IptablesEngineOptions = {}) {
    this.#options = options;
  }

  /**
   * Installs the ruleset in place of ours and the reference implementation's, in both backends.
   *
   * @throws {EngineError} when a tool is missing, fails, hangs, or did something else; what was
   * there before is there again then
   */
  apply(ruleset: Ruleset): ApplyResult {
    using run = new IptablesRun(this.#options);
    return run.apply(ruleset);
  }

  /** Compares; starts one process per family that has tables, and one more per program file. */
  verify(ruleset: Ruleset): readonly Difference[] {
    using run = new IptablesRun(this.#options);
    return run.verify(ruleset);
  }

  /**
   * Reads what our rules that redirect have counted; starts the same processes.
   *
   * @returns nothing when none of our rules are there
   * @throws {EngineError} when a tool is missing or fails
   */
  readRedirects(): readonly CountedRedirect[] | undefined {
    using run = new IptablesRun(this.#options);
    return run.readRedirects();
  }

  /**
   * Says why the host's tools cannot be used in this namespace; `undefined` when they can.
   *
   * @param families whose tools are needed
   */
  findProblem(families: readonly IpFamily[]): string | undefined {
    using run = new IptablesRun(this.#options);
    return run.findProblem(families);
  }

  /** Removes our rules from both backends; starts no process when there are none. */
  remove(): boolean {
    using run = new IptablesRun(this.#options);
    return run.remove();
  }
}
