/**
 * Brings the host to what the plan wants, again and again. Each pass looks at everything anew, so an
 * interrupted or contradicted pass needs no memory to be continued.
 */
import type { Logger } from "../../src/log/log.ts";
import { byteString } from "../conflist/json_edit.ts";
import { type Change, pluginTypesIn } from "../host/changes.ts";
import { errorText } from "../host/error_text.ts";
import { hasOtherOwner, removeFile, type Replaced, replaceFile } from "../host/host_files.ts";
import { writeInstalled } from "../host/installed.ts";
import { type Journal, sha256, writeJournal } from "../host/journal.ts";
import { confNames, observe, type Observed } from "../host/observe.ts";
import type { Operations } from "../host/operations.ts";
import { PluginFiles } from "../host/plugin_files.ts";
import { pluginPlacesOf } from "../host/plugin_plan.ts";
import { makeStateDir } from "../host/state_folder.ts";
import { plan } from "../plan/plan.ts";
import type { Cause, Plan, Step } from "../plan/steps.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Settings } from "../settings/declarations.ts";
import { type Paths, pathsOf } from "../settings/paths.ts";
import { Contention, likelyCause } from "./contention.ts";
import type { Observer } from "./service.ts";
import { Troubles } from "./troubles.ts";

/** How a pass ended. */
export interface Pass {
  /** `undefined`: not to be told right now; as before for a moment, see {@linkcode Grace}. */
  readonly ready: boolean | undefined;
  readonly reason: string;
  /** Milliseconds after which to try again, besides events; `undefined`: at the next tick. */
  readonly retryAfter?: number;
  /** Whether a write failed, so that events of our own attempts must not cause the next one. */
  readonly failed: boolean;
  /** Causes of the steps that were done. */
  readonly done: readonly Cause[];
}

/** Steps without which pods are captured nevertheless. */
const harmless: ReadonlySet<Cause> = new Set<Cause>(["token-rotated", "left-over"]);
/** Steps that answer another program's write to a shared file. */
const answers: ReadonlySet<Cause> = new Set<Cause>([
  "entry-missing",
  "entry-not-last",
  "entry-changed",
  "file-missing",
  "file-changed",
]);

/** Looks, decides and acts. */
export class Reconciler {
  readonly plugin: PluginFiles;
  readonly paths: Paths;
  readonly #contention = new Contention();
  readonly #troubles: Troubles;
  #wasInstalled = false;
  /** Files beyond the net dir that the last look depended on. */
  #runtimePaths: readonly string[] = [];
  #toldRuntime = "";
  #isRemembered = false;
  /** The last pass that ended with everything in place, and what the files were before it. */
  #settled: { readonly fingerprint: string; readonly pass: Pass } | undefined;

  constructor(
    private readonly settings: Settings,
    private readonly operations: Operations,
    sourceDir: string,
    private readonly log: Logger,
    private readonly observer: Observer = {},
    private readonly now: () => number = () => performance.now(),
  ) {
    this.paths = pathsOf(settings);
    this.#troubles = new Troubles(log, now);
    this.plugin = new PluginFiles(operations, pluginPlacesOf(settings, sourceDir));
  }

  /** Looks and decides without acting. */
  async look(): Promise<{ readonly seen: Observed; readonly plan: Plan }> {
    const seen = await observe(this.operations, this.settings, this.plugin);
    this.#runtimePaths = seen.view.paths;
    return { seen, plan: plan(this.settings, seen) };
  }

  /**
   * Does what {@linkcode pass} does when anything has changed since the last pass that ended with
   * everything in place; else only looks at the files' status, which costs a tenth.
   */
  async quickPass(): Promise<Pass> {
    const settled = this.#settled;
    if (settled?.fingerprint === this.#fingerprint()) return { ...settled.pass, done: [] };
    return await this.pass();
  }

  /** Names and status of every file that a decision depends on. */
  #fingerprint(): string {
    const { operations, settings } = this;
    const { names = [], unread } = confNames(operations, settings) ?? {};
    const paths = [
      ...names.map((name) => `${settings.mountedNetDir}/${name}`),
      this.paths.kubeconfig,
      settings.tokenFile,
      settings.caFile,
      ...this.plugin.targets,
      ...this.#runtimePaths,
    ];
    const lines = paths.map((path) => {
      const status = operations.targetStatus(path);
      return `${path} ${status?.identity} ${status?.mode} ${status?.uid}`;
    });
    return [...lines, unread].join("\n");
  }

  /**
   * Does one pass. Never throws for trouble with the host's files: what works is left as it is.
   *
   * @param since When the change that caused the pass was noticed, by the constructor's clock.
   */
  async pass(since: number = this.now()): Promise<Pass> {
    const done: Cause[] = [];
    this.#settled = undefined;
    await this.plugin.prepare();
    for (let conflicts = 0;;) {
      // Taken before looking, so that a change during the look makes it differ afterwards.
      const fingerprint = this.#fingerprint();
      const { seen, plan } = await this.look();
      this.#troubles.standing(plan.warnings);
      this.#tellRuntime(seen.view.runtime);
      if (plan.steps.length === 0) {
        const pass = this.#finished(plan, done, since);
        if (pass.ready && plan.warnings.length === 0) this.#settled = { fingerprint, pass };
        return pass;
      }
      if (conflicts === 10) {
        const reason = "Other programs keep changing the files meanwhile";
        return this.#unfinished(plan, done, reason, { failed: false, retryAfter: 200 });
      }
      for (const step of plan.steps) {
        const wait = this.#waitOfContention(step, seen);
        if (wait > 0) {
          const reason = `Another program keeps rewriting "${nameOf(step)}"`;
          return this.#unfinished(plan, done, reason, { failed: false, retryAfter: wait });
        }
        try {
          const result = await this.#execute(step, seen.journal);
          if (result === "changed") {
            conflicts++;
            this.observer.conflict?.(nameOf(step));
            this.log.debug("Another program changed a file meanwhile", { file: nameOf(step) });
            break;
          }
        } catch (error) {
          const reason = `Cannot put "${nameOf(step)}" in place: ${errorText(error)}`;
          this.#troubles.tell("error", reason);
          return this.#unfinished(plan, done, reason, { failed: true });
        }
        for (const refused of this.operations.takeRefused()) {
          this.#troubles.tell("warn", `Cannot keep the extended attribute ${refused}`);
        }
        done.push(step.cause);
        this.#report(step, since, seen);
        // A changed journal or directory makes the rest of this plan stale.
        if (step.kind !== "install-plugin") break;
      }
    }
  }

  async #execute(step: Step, journal: Journal): Promise<Replaced> {
    const { operations, settings } = this;
    switch (step.kind) {
      case "install-plugin":
        this.#remember();
        await this.plugin.install();
        if (this.plugin.doubt !== undefined) {
          this.#troubles.tell("warn", `The plugin was not started on trial: ${this.plugin.doubt}`);
        }
        if (this.plugin.shim?.kind === "plugin" && this.plugin.shim.isTrouble) {
          this.#troubles.tell("warn", `Each call starts the plugin: ${this.plugin.shim.reason}`);
        }
        return "done";
      case "remove":
        return removeFile(operations, `${settings.mountedNetDir}/${step.name}`, step.expected);
      case "write": {
        const { name, before, expected, content, attributes } = step;
        if (before !== undefined) {
          const entry = { before, wrote: sha256(content) };
          const old = journal.get(name);
          const isKnown = old !== undefined && old.wrote === entry.wrote &&
            sha256(encoded(old.before)) === sha256(encoded(before));
          makeStateDir(operations, this.paths.stateDir);
          if (!isKnown) {
            writeJournal(operations, this.paths.stateDir, new Map(journal).set(name, entry));
          }
        } else if (name !== settings.kubeconfigName && journal.has(name)) {
          // The file is being given back to its owner.
          const rest = new Map(journal);
          rest.delete(name);
          const path = `${settings.mountedNetDir}/${name}`;
          const result = replaceFile(operations, path, expected, content, attributes);
          if (result === "done") writeJournal(operations, this.paths.stateDir, rest);
          return result;
        }
        const path = `${settings.mountedNetDir}/${name}`;
        const result = replaceFile(operations, path, expected, content, attributes);
        if (result === "done" && hasOtherOwner(operations, path, attributes)) {
          this.log.warn("The file has another owner now: CAP_CHOWN is needed to keep it", {
            file: `${settings.netDir}/${name}`,
            owner: `${attributes.uid}:${attributes.gid}`,
          });
        }
        return result;
      }
    }
  }

  #waitOfContention(step: Step, seen: Observed): number {
    if (step.kind !== "write" || !answers.has(step.cause) || !this.#wasInstalled) return 0;
    const backoff = this.#contention.ask(step.name, this.now());
    if (backoff.tell) {
      const texts = seen.files.map(({ text }) => text ?? "").join("\n");
      this.observer.conflict?.(step.name);
      this.log.warn(
        `"${step.name}" is rewritten again and again: ${likelyCause(texts)}`,
        {
          file: `${this.settings.netDir}/${step.name}`,
        },
      );
    }
    return backoff.wait;
  }

  #report(step: Step, since: number, seen: Observed): void {
    if (!this.#wasInstalled) {
      this.log.info("Installed", { file: nameOf(step) });
      return;
    }
    const milliseconds = this.now() - since;
    if (step.kind === "write" && answers.has(step.cause)) {
      this.#contention.repaired(step.name, this.now());
      this.observer.answered?.(changeOf(step, seen));
    }
    this.observer.healed?.(step.cause, milliseconds);
    const level = step.cause === "token-rotated" ? "debug" : "info";
    this.log[level]("Repaired", {
      file: nameOf(step),
      cause: step.cause,
      milliseconds: Math.round(milliseconds * 10) / 10,
    });
  }

  #finished(plan: Plan, done: Cause[], since: number): Pass {
    if (plan.waitingFor !== undefined) {
      const reason = `Waiting for ${plan.waitingFor}`;
      this.#troubles.tell("info", reason);
      return {
        ready: plan.isUnreadable ? undefined : false,
        reason,
        failed: false,
        done,
      };
    }
    if (plan.blocked !== undefined) {
      this.#troubles.tell("warn", plan.blocked);
      return { ready: false, reason: plan.blocked, failed: false, done };
    }
    if (!this.#wasInstalled) {
      this.#wasInstalled = true;
      for (const remark of plan.remarks ?? []) this.log.warn(remark);
      this.observer.installed?.(this.now() - since);
    }
    try {
      this.#remember();
      this.plugin.removeStale(Date.now());
    } catch (error) {
      this.log.debug("Cannot tidy up", { reason: errorText(error) });
    }
    return { ready: true, reason: `Installed in "${plan.target}"`, failed: false, done };
  }

  #unfinished(
    plan: Plan,
    done: Cause[],
    reason: string,
    rest: { failed: boolean; retryAfter?: number },
  ): Pass {
    const isHarmless = plan.waitingFor === undefined && plan.blocked === undefined &&
      plan.steps.every((step) => harmless.has(step.cause));
    return { ready: isHarmless && this.#wasInstalled, reason, done, ...rest };
  }

  /** Notes where the program goes, once, so that uninstalling can notice another folder. */
  #remember(): void {
    if (this.#isRemembered) return;
    const { mountedBinDir } = this.settings;
    const { hostBinDir, stateDir } = this.paths;
    writeInstalled(this.operations, stateDir, { hostBinDir, mountedBinDir });
    this.#isRemembered = true;
  }

  /** Says which runtime is reckoned with, and what is odd about it: once, and when that changes. */
  #tellRuntime(runtime: Runtime): void {
    const { kind, basis, maxConfNum, defaultNetwork, warnings } = runtime;
    const text = JSON.stringify(runtime);
    if (text === this.#toldRuntime) return;
    this.#toldRuntime = text;
    this.log.info("Runtime", {
      kind,
      basis,
      ...(kind === "containerd" ? { maxConfNum } : {}),
      ...(defaultNetwork === "" ? {} : { defaultNetwork }),
    });
    for (const warning of warnings) this.log.warn(warning);
  }
}

/** What another program did, as far as its file tells. */
function changeOf({ name, cause }: Step & { kind: "write" }, { files, at }: Observed): Change {
  const file = files.find((file) => file.name === name);
  if (file === undefined) return { at, file: name, cause };
  const { modified: written, uid } = file.status;
  return { at, file: name, cause, written, uid, types: pluginTypesIn(file) };
}

function nameOf(step: Step): string {
  return step.kind === "install-plugin" ? "kuma-cni" : step.name;
}

function encoded(before: unknown): Uint8Array {
  return new TextEncoder().encode(
    JSON.stringify(before, (_, value) => value instanceof Uint8Array ? byteString(value) : value),
  );
}
