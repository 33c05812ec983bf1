/** One run of the iptables engine: what it has looked at, its tools and its deadline. */
import type { IpFamily } from "../../ip/address.ts";
import type { Ruleset } from "../../redirect/ruleset.ts";
import { LinuxError } from "../../linux/errno.ts";
import type { FileDescriptor } from "../../linux/libc.ts";
import { messageOf } from "../../text/message_of.ts";
import { type ApplyResult, type Difference, EngineError } from "../engine.ts";
import {
  addPassthroughAddress,
  type PassthroughAddition,
  passthroughAddressDifferences,
} from "../passthrough_address.ts";
import { Entrance } from "./entrance.ts";
import { removeOwnNftObjects } from "./nft_tables.ts";
import type { CountedRedirect } from "../redirect_counts.ts";
import { redirectsOf } from "./counters.ts";
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
  hasUnmarkedRules,
  mayHavePredecessor,
  noTools,
  type Survey,
  surveyNamespace,
} from "./survey.ts";
import { ToolError } from "./tool_error.ts";
import { missingTools, ToolRunner } from "./tool_runner.ts";
import { type Backend, ToolFinder, type Tools } from "./tools.ts";

/** What the engine is told; without it, it looks itself, and its defaults are right. */
export interface IptablesEngineOptions {
  /** Use this backend, instead of choosing by what is in the namespace. */
  readonly backend?: Backend;
  /** Look for tools only here, without asking whether these folders can be trusted. */
  readonly toolFolders?: readonly string[];
  /** Bound for one tool; default 10 s. */
  readonly toolTimeoutMs?: number;
  /** Bound for all tools of one call; default 30 s. */
  readonly totalTimeoutMs?: number;
  /** What is in the namespace, when the caller has looked already. */
  readonly survey?: Survey;
  /** The lock that the caller holds: tools that outlive this process go on holding it. */
  readonly lock?: FileDescriptor;
}

const BACKENDS: readonly Backend[] = ["nft", "legacy"];

/** How often an apply is tried when somebody else changes the same tables at the same time. */
const TRIES = 3;

/** Does one thing, and is disposed of then. */
export class IptablesRun implements Disposable {
  readonly #finder: ToolFinder;
  readonly #runner: ToolRunner;
  readonly #notes: string[] = [];
  readonly #survey: Survey;
  #entrance: { readonly way: Entrance | undefined } | undefined;

  /** @throws {EngineError} when the namespace cannot be examined */
  constructor(private readonly options: IptablesEngineOptions) {
    const timeoutMs = options.toolTimeoutMs ?? 10_000;
    this.#finder = new ToolFinder(options.toolFolders, timeoutMs);
    this.#runner = new ToolRunner({
      toolTimeoutMs: timeoutMs,
      totalTimeoutMs: options.totalTimeoutMs ?? 30_000,
      lock: options.lock,
      entrance: () => this.#findEntrance(),
    });
    try {
      this.#survey = options.survey ?? surveyNamespace();
    } catch (error) {
      throw asEngineError("Cannot look at the namespace's iptables tables", error);
    }
  }

  [Symbol.dispose](): void {
    this.#entrance?.way?.[Symbol.dispose]();
  }

  /** See {@linkcode IptablesEngine.apply}. */
  apply(ruleset: Ruleset): ApplyResult {
    const tools = this.#usableTools(ruleset.families.map(({ family }) => family));
    const other = this.#otherTools(tools);
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

  /** See {@linkcode IptablesEngine.verify}. */
  verify(ruleset: Ruleset): readonly Difference[] {
    const differences: Difference[] = [];
    const holders = BACKENDS.flatMap((backend) => this.#holder(backend));
    const [holder, second] = this.options.backend === "legacy" ? holders.reverse() : holders;
    if (second !== undefined) {
      differences.push({
        kind: "unexpected",
        object: `rules in the ${second.backend} backend of iptables besides those in ` +
          `${holder?.backend}`,
      });
    }
    const saved: Snapshot = holder?.saved ?? new Map();
    return [
      ...differences,
      ...compareFamilies(saved, ruleset, FAMILIES),
      ...(ruleset.ipv6PassthroughAddress ? passthroughAddressDifferences() : []),
    ];
  }

  /** See {@linkcode IptablesEngine.readRedirects}. */
  readRedirects(): readonly CountedRedirect[] | undefined {
    const holders = BACKENDS.flatMap((backend) => this.#holder(backend, ["-c"]));
    if (holders.length === 0) return undefined;
    return holders.flatMap(({ saved }) => [...saved.values()].flatMap(redirectsOf));
  }

  /** See {@linkcode IptablesEngine.findProblem}. */
  findProblem(families: readonly IpFamily[]): string | undefined {
    try {
      this.#usableTools(families);
      return undefined;
    } catch (error) {
      if (error instanceof ToolError) return error.message;
      throw error;
    }
  }

  /** See {@linkcode IptablesEngine.remove}. */
  remove(): boolean {
    return BACKENDS.filter((backend) => this.#mayHaveOwn(backend))
      .map((backend) => {
        const tools = this.#finder.find(backend);
        return tools === undefined
          ? this.#cleanWithoutTools(backend)
          : this.#runner.sandboxed(tools, this.#notes, () => this.#clean(tools));
      }).includes(true);
  }

  /** Whether something of ours is there, or something that only a tool can tell from ours. */
  #mayHaveOwn(backend: Backend): boolean {
    return hasOwnObjects(this.#survey, backend) || mayHavePredecessor(this.#survey, backend);
  }

  /** The rules of a backend that has ours. */
  #holder(
    backend: Backend,
    args: readonly "-c"[] = [],
  ): { readonly backend: Backend; readonly saved: Snapshot }[] {
    if (!this.#mayHaveOwn(backend)) return [];
    const certain = hasOwnObjects(this.#survey, backend);
    const tools = certain ? this.#toolsOf(backend) : this.#finder.find(backend);
    if (tools === undefined) return [];
    const saved = this.#runner.sandboxed(
      tools,
      this.#notes,
      () => this.#save(tools, surveyNamespace(), args),
    );
    return certain || [...saved.values()].some(hasOwnRules) ? [{ backend, saved }] : [];
  }

  #findEntrance(): Entrance | undefined {
    try {
      return (this.#entrance ??= { way: Entrance.find(this.#finder) }).way;
    } catch (error) {
      throw asEngineError("Cannot enter the pod's user namespace", error);
    }
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

  /** The tools to work with, once it is known that they can do what these families need. */
  #usableTools(families: readonly IpFamily[]): Tools {
    const tools = this.#chooseTools();
    for (const family of families) {
      if (tools.families[family] === undefined) throw missingTools(tools, family);
    }
    this.#findEntrance();
    return tools;
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
    return this.#mayHaveOwn(other) ? this.#toolsOf(other) : undefined;
  }

  /** Reads all families that have tables. */
  #save(
    tools: Tools,
    survey: Survey = surveyNamespace(),
    args: readonly "-c"[] = [],
  ): Snapshot {
    const families = familiesWithTables(survey, tools.backend).filter((family) =>
      // A family without tools does not matter as long as nothing of ours is in it.
      tools.families[family] !== undefined || hasOwnObjects(survey, tools.backend, [family]) ||
      mayHavePredecessor(survey, tools.backend, [family])
    );
    return this.#runner.save(tools, families, args);
  }

  #replacePatiently(tools: Tools, ruleset: Ruleset): void {
    for (let tries = 1;; tries++) {
      try {
        return this.#replace(tools, ruleset, tries === 1 ? this.#survey : surveyNamespace());
      } catch (error) {
        if (!(error instanceof ToolError) || !error.temporary || tries === TRIES) throw error;
      }
    }
  }

  #replace(tools: Tools, ruleset: Ruleset, survey: Survey): void {
    const before = this.#save(tools, survey);
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
      const first = messageOf(reason);
      throw new EngineError(
        `${first}; and what was there before could not be brought back: ${error.message}`,
        "iptables",
        { cause: reason },
      );
    }
  }

  /** Removes our rules from a backend; tells whether there were any. */
  #clean(tools: Tools): boolean {
    const texts = planRestores(this.#save(tools));
    if (texts.size === 0) return false;
    this.#runner.restore(tools, texts);
    for (const [family, saved] of this.#runner.save(tools, [...texts.keys()])) {
      if (!hasOwnRules(saved)) continue;
      throw new EngineError(
        `Earlier ${family === "ipv4" ? "IPv4" : "IPv6"} rules are still in the ${tools.backend} ` +
          `backend of iptables after their removal`,
        "iptables",
      );
    }
    return true;
  }

  #cleanWithoutTools(backend: Backend): boolean {
    if (backend === "legacy" || hasUnmarkedRules(this.#survey)) {
      const what = backend === "legacy"
        ? "from the legacy tables of iptables"
        : "that carry no comments and cannot be told from those of others without iptables' tools";
      throw new EngineError(
        `Cannot remove earlier rules ${what}: ${
          noTools(this.#survey, this.#finder, backend).message
        }`,
        "iptables",
      );
    }
    try {
      return removeOwnNftObjects();
    } catch (error) {
      throw asEngineError("Cannot remove earlier iptables rules", error);
    }
  }
}

function asEngineError(attempt: string, error: unknown): unknown {
  if (!(error instanceof LinuxError)) return error;
  return new EngineError(`${attempt}: ${error.message}`, "iptables", { cause: error });
}
