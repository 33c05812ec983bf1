/**
 * The engine for kernels and sites that want iptables: it gives one text per family to the host's
 * `iptables-restore`, and reads the result back with `iptables-save`.
 */
import type { Ruleset } from "../../redirect/ruleset.ts";
import { LinuxError } from "../../linux/errno.ts";
import { type ApplyResult, type Difference, type Engine, EngineError } from "../engine.ts";
import {
  addPassthroughAddress,
  type PassthroughAddition,
  passthroughAddressDifferences,
} from "../passthrough_address.ts";
import { removeOwnNftObjects } from "./nft_tables.ts";
import { hasOwnRules } from "./own_rules.ts";
import {
  compareFamilies,
  describe,
  FAMILIES,
  planRestores,
  planRollbacks,
  type Snapshot,
} from "./snapshot.ts";
import {
  chooseTools,
  familiesWithTables,
  hasOwnObjects,
  noTools,
  type Survey,
  surveyNamespace,
} from "./survey.ts";
import { type Backend, ToolFinder, type Tools } from "./tools.ts";
import { missingTools, ToolError, ToolRunner } from "./tool_runner.ts";

/** Settings of the engine; the defaults are right outside of tests. */
export interface IptablesEngineOptions {
  /** Use this backend, instead of choosing by what is in the namespace. */
  readonly backend?: Backend;
  /** Look for tools only here, without asking whether these folders can be trusted. */
  readonly toolFolders?: readonly string[];
  /** Bound for one tool; default 10 s. */
  readonly toolTimeoutMs?: number;
  /** Bound for all tools of one call; default 30 s. */
  readonly totalTimeoutMs?: number;
}

/** How often an apply is tried when somebody else changes the same tables at the same time. */
const TRIES = 3;

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
    return new Call(this.#options).apply(ruleset);
  }

  /** Compares; starts one process per family that has tables, and one more per program file. */
  verify(ruleset: Ruleset): readonly Difference[] {
    return new Call(this.#options).verify(ruleset);
  }

  /** Says why the host's tools cannot be used in this namespace; `undefined` when they can. */
  findProblem(): string | undefined {
    return new Call(this.#options).findProblem();
  }

  /** Removes our rules from both backends; starts no process when there are none. */
  remove(): boolean {
    return new Call(this.#options).remove();
  }
}

/** One call of the engine: its tools, deadline and notes. */
class Call {
  readonly #finder: ToolFinder;
  readonly #runner: ToolRunner;
  readonly #notes: string[] = [];
  readonly #survey: Survey;

  constructor(private readonly options: IptablesEngineOptions) {
    const timeoutMs = options.toolTimeoutMs ?? 10_000;
    this.#finder = new ToolFinder(options.toolFolders, timeoutMs);
    this.#runner = new ToolRunner(timeoutMs, options.totalTimeoutMs ?? 30_000);
    try {
      this.#survey = surveyNamespace();
    } catch (error) {
      throw asEngineError("Cannot look at the namespace's iptables tables", error);
    }
  }

  apply(ruleset: Ruleset): ApplyResult {
    const tools = this.#chooseTools();
    const other = this.#otherTools(tools);
    for (const { family } of ruleset.families) {
      if (tools.families[family] === undefined) throw missingTools(tools, family);
    }
    const address = ruleset.ipv6PassthroughAddress ? this.#addAddress() : undefined;
    try {
      this.#runner.sandboxed(tools, this.#notes, () => this.#replacePatiently(tools, ruleset));
    } catch (error) {
      address?.undo();
      throw error;
    }
    // Only now: until here the earlier rules of the other backend have kept the pod in the mesh.
    if (other !== undefined) {
      this.#runner.sandboxed(other, this.#notes, () => this.#clean(other));
    }
    return {
      engine: "iptables",
      backend: tools.backend,
      families: ruleset.families.map(({ family }) => family),
      ruleCount:
        ruleset.families.flatMap(({ tables }) =>
          tables.flatMap(({ chains }) => chains.flatMap(({ rules }) => rules))
        ).length,
      notes: this.#notes,
    };
  }

  verify(ruleset: Ruleset): readonly Difference[] {
    const differences: Difference[] = [];
    const holders = (["nft", "legacy"] as const).filter((b) => hasOwnObjects(this.#survey, b));
    const [holder, second] = this.options.backend === "legacy" ? holders.reverse() : holders;
    if (second !== undefined) {
      differences.push({
        kind: "unexpected",
        object: `rules in the ${second} backend of iptables besides those in ${holder}`,
      });
    }
    let saved: Snapshot = new Map();
    if (holder !== undefined) {
      const tools = this.#toolsOf(holder);
      saved = this.#runner.sandboxed(tools, this.#notes, () => this.#save(tools));
    }
    return [
      ...differences,
      ...compareFamilies(saved, ruleset, FAMILIES),
      ...(ruleset.ipv6PassthroughAddress ? passthroughAddressDifferences() : []),
    ];
  }

  findProblem(): string | undefined {
    try {
      this.#chooseTools();
      return undefined;
    } catch (error) {
      if (error instanceof ToolError) return error.message;
      throw error;
    }
  }

  remove(): boolean {
    let removed = false;
    for (const backend of ["nft", "legacy"] as const) {
      if (!hasOwnObjects(this.#survey, backend)) continue;
      removed = true;
      const tools = this.#finder.find(backend);
      if (tools !== undefined) {
        this.#runner.sandboxed(tools, this.#notes, () => this.#clean(tools));
      } else {
        this.#cleanWithoutTools(backend);
      }
    }
    return removed;
  }

  #addAddress(): PassthroughAddition {
    try {
      const addition = addPassthroughAddress();
      if (addition.note !== undefined) this.#notes.push(addition.note);
      return addition;
    } catch (error) {
      throw asEngineError("Cannot install the rules", error);
    }
  }

  #chooseTools(): Tools {
    const { backend } = this.options;
    return backend === undefined
      ? chooseTools(this.#survey, this.#finder, this.#notes)
      : this.#toolsOf(backend);
  }

  #toolsOf(backend: Backend): Tools {
    const tools = this.#finder.find(backend);
    if (tools === undefined) throw noTools(this.#survey, this.#finder, backend);
    return tools;
  }

  /** The tools to clean the other backend with, when there is something to clean. */
  #otherTools({ backend }: Tools): Tools | undefined {
    const other = backend === "nft" ? "legacy" : "nft";
    return hasOwnObjects(this.#survey, other) ? this.#toolsOf(other) : undefined;
  }

  /** Reads all families that have tables. */
  #save(tools: Tools): Snapshot {
    const survey = surveyNamespace();
    const families = familiesWithTables(survey, tools.backend).filter((family) =>
      // A family without tools does not matter as long as nothing of ours is in it.
      tools.families[family] !== undefined || hasOwnObjects(survey, tools.backend, [family])
    );
    return this.#runner.save(tools, families);
  }

  #replacePatiently(tools: Tools, ruleset: Ruleset): void {
    for (let tries = 1;; tries++) {
      try {
        return this.#replace(tools, ruleset);
      } catch (error) {
        if (!(error instanceof ToolError) || !error.temporary || tries === TRIES) throw error;
      }
    }
  }

  #replace(tools: Tools, ruleset: Ruleset): void {
    const before = this.#save(tools);
    const texts = planRestores(before, ruleset);
    if (texts.size === 0) return;
    try {
      this.#runner.restore(tools, texts);
      const differences = compareFamilies(
        this.#runner.save(tools, [...texts.keys()]),
        ruleset,
        [...texts.keys()],
      );
      if (differences.length > 0) {
        throw new EngineError(
          `The iptables rules read back differ from those installed: ${describe(differences)}`,
          "iptables",
          { differences },
        );
      }
    } catch (error) {
      this.#rollBack(tools, before, ruleset, error);
      throw error;
    }
  }

  /** Brings back what was there before, each family that has changed. */
  #rollBack(tools: Tools, before: Snapshot, ruleset: Ruleset, reason: unknown): void {
    try {
      const texts = planRollbacks(this.#save(tools), before, ruleset);
      this.#runner.restore(tools, texts);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      const first = reason instanceof Error ? reason.message : String(reason);
      throw new EngineError(
        `${first}; and what was there before could not be brought back: ${error.message}`,
        "iptables",
        { cause: reason },
      );
    }
  }

  /** Removes our rules from a backend. */
  #clean(tools: Tools): void {
    const texts = planRestores(this.#save(tools));
    if (texts.size === 0) return;
    this.#runner.restore(tools, texts);
    for (const [family, saved] of this.#runner.save(tools, [...texts.keys()])) {
      if (!hasOwnRules(saved)) continue;
      throw new EngineError(
        `Earlier ${family === "ipv4" ? "IPv4" : "IPv6"} rules are still in the ${tools.backend} ` +
          `backend of iptables after their removal`,
        "iptables",
      );
    }
  }

  #cleanWithoutTools(backend: Backend): void {
    if (backend === "legacy") {
      throw new EngineError(
        `Cannot remove earlier rules from the legacy tables of iptables: ${
          noTools(this.#survey, this.#finder, "legacy").message
        }`,
        "iptables",
      );
    }
    try {
      removeOwnNftObjects();
    } catch (error) {
      throw asEngineError("Cannot remove earlier iptables rules", error);
    }
  }
}

function asEngineError(attempt: string, error: unknown): unknown {
  if (!(error instanceof LinuxError)) return error;
  return new EngineError(`${attempt}: ${error.message}`, "iptables", { cause: error });
}
