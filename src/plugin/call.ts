/** What one call of the plugin carries along: settings, log records, phases, the agent's connection. */
import { AgentClient } from "../agent/client.ts";
import type { CallOutcome } from "../agent/messages.ts";
import { type CniArgs, parseCniArgs, type PodReference } from "../cni/args.ts";
import type { CniError } from "../cni/errors.ts";
import type { CniRequest } from "../cni/serve.ts";
import { type NetworkSettings, readSettings } from "../cni/settings.ts";
import type { Pod } from "../kubernetes/pod.ts";
import type { LedgerEntry } from "../ledger/entry.ts";
import { appendToLogFile, isOwnFolder, stateFolderOf } from "../log/file.ts";
import { Logger, type LogRecord } from "../log/log.ts";
import type { RedirectConfig } from "../redirect/config.ts";
import type { NamespaceFacts, Ruleset } from "../redirect/ruleset.ts";
import { shorten } from "../text/shorten.ts";
import { VERSION } from "../version.ts";
import { bytecodeState } from "./bytecode.ts";

/** How the call ended, in the agent's words, without what is known only at the end. */
export type Result = Pick<CallOutcome, "result" | "reason" | "engine" | "fallback">;

/** A field of all records; what a caller hands over can be as long as the kernel lets it. */
function shown(name: string, value: string | undefined): Record<string, string> {
  return value === undefined || value === "" ? {} : { [name]: shorten(value, 256) };
}

/**
 * A program that serves a call in the place of the plugin's own process: it has the pods already, was
 * handed the namespace as an open file, and writes the log itself. A part that cannot do what is
 * asked of it throws, and whoever serves throws the whole call away then.
 */
export interface CallHost {
  /** Finds the pod. */
  pod(reference: PodReference): Promise<Pod>;
  /** Does synchronous work inside of the pod's network namespace, which may neither wait nor load. */
  inPodNamespace<T>(settings: NetworkSettings, work: () => T): T;
  /** Compiles the rules, as `compileRuleset` does. */
  compile(config: RedirectConfig, facts: NamespaceFacts): Ruleset;
  /** Takes over the log records, the outcome, and what ADD did to the sandbox, for the ledger. */
  finish(records: readonly LogRecord[], outcome: CallOutcome, entry?: LedgerEntry): void;
}

/** One ADD, CHECK or STATUS. */
export class Call {
  readonly settings: NetworkSettings;
  readonly args: CniArgs;
  readonly log: Logger;
  /** Set by the verb; a call that failed needs none. */
  result: Result = { result: "done" };
  /** What ADD did to the sandbox, for the ledger. */
  done: LedgerEntry["outcome"] | undefined;
  readonly #records: LogRecord[] = [];
  readonly #phases: Record<string, number> = {};
  readonly #started: number;
  #agent: Promise<AgentClient | undefined> | undefined;

  /**
   * @param started When the call began, on the clock of `performance.now()`.
   * @param host Who serves it, when that is not a process of its own.
   * @throws {CniError} code 4 or 7 when `CNI_ARGS` or a setting is wrong.
   */
  constructor(
    readonly request: CniRequest,
    started: number = performance.now(),
    readonly host?: CallHost,
  ) {
    this.#started = started;
    this.settings = readSettings(request.config.values);
    this.args = parseCniArgs(request.environment.args);
    const { podNamespace, podName, podUid, infraContainerId, ip } = this.args;
    const { verb, containerId, netns } = request.environment;
    this.log = new Logger("kuma-cni", this.settings.logLevel, (record) => {
      this.#records.push(record);
    }, {
      verb,
      ...shown("namespace", podNamespace),
      ...shown("pod", podName),
      ...shown("podUid", podUid),
      ...shown("infraContainerId", infraContainerId),
      ...shown("ip", ip),
      ...shown("containerId", containerId),
      ...shown("netns", netns),
    });
  }

  /** The pod for messages, `"demo/app-0"`. */
  get podLabel(): string {
    const { podNamespace = "", podName = "" } = this.args;
    return JSON.stringify(`${shorten(podNamespace, 64)}/${shorten(podName, 256)}`);
  }

  /** Connects to the node agent, once; `undefined` when there is none. */
  agent(): Promise<AgentClient | undefined> {
    const { agentSocket } = this.settings;
    return this.#agent ??= agentSocket === undefined
      ? Promise.resolve(undefined)
      : AgentClient.connect(agentSocket);
  }

  /** Does a part of the call and remembers its duration; the parts are told to the agent. */
  async phase<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    const started = performance.now();
    try {
      return await work();
    } finally {
      this.#phases[name] = (this.#phases[name] ?? 0) + performance.now() - started;
    }
  }

  /**
   * Hands log records, outcome and what was done over to the agent, else the records to the log file
   * and what was done to the ledger's folder. Never throws, since logging must not fail a pod.
   *
   * @param error Why the call failed, if it did.
   */
  async deliver(error?: CniError): Promise<void> {
    if (error !== undefined) {
      this.log.error(`${this.request.environment.verb} failed: ${error.message}`, {
        code: error.code,
        ...(error.details === "" ? {} : { details: error.details }),
      });
    }
    const entry = error === undefined ? this.#entry() : undefined;
    if (this.host !== undefined) {
      return this.host.finish(this.#records, this.#outcome(error), entry);
    }
    const bytecode = bytecodeState();
    // Refused bytecode changes nothing but the time that each pod waits, which nobody else would see.
    if (bytecode !== undefined) this.log.debug("V8's bytecode of the build", { bytecode });
    try {
      const agent = await this.agent();
      const taken = await agent?.finish(this.#records, this.#outcome(error), entry);
      agent?.close();
      if (taken === true) return;
    } catch {
      // The file below takes the records.
    }
    const folder = stateFolderOf(this.settings.kubeconfig, this.settings.agentSocket);
    if (folder === undefined) return;
    appendToLogFile(folder, this.#records);
    // Without it the agent would not know of the pod when it is back.
    if (entry?.outcome.result === "redirected") await keepEntry(folder, entry);
  }

  #entry(): LedgerEntry | undefined {
    const { done, args, request } = this;
    if (done === undefined) return undefined;
    const { containerId, interfaceName, netns } = request.environment;
    return {
      sandbox: containerId,
      interfaceName,
      network: request.config.name,
      podNamespace: args.podNamespace ?? "",
      podName: args.podName ?? "",
      ...(args.podUid === undefined ? {} : { podUid: args.podUid }),
      netns,
      time: Date.now(),
      version: VERSION,
      outcome: done,
    };
  }

  #outcome(error: CniError | undefined): CallOutcome {
    const bytecode = bytecodeState();
    const known = {
      command: this.request.environment.verb,
      phases: { ...this.#phases, total: performance.now() - this.#started },
      ...(bytecode === undefined ? {} : { bytecode }),
    };
    if (error === undefined) return { ...known, ...this.result };
    return { ...known, result: "failed", reason: String(error.code) };
  }
}

async function keepEntry(folder: string, entry: LedgerEntry): Promise<void> {
  try {
    if (!isOwnFolder(folder)) return;
    const { putEntry } = await import("../ledger/folder.ts");
    putEntry(folder, entry);
  } catch {
    // Unknown to the ledger is not unmeshed: the agent looks at the namespace itself, where it may.
  }
}
