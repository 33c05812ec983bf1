/**
 * The running installer: wakes at changes and ticks, brings the host in order, keeps the ready file
 * true, and decides at its end whether the plugin stays on the host.
 */
import type { Logger } from "../../src/log/log.ts";
import { errorText } from "../host/error_text.ts";
import { folderOf, targetOfTemporaryName } from "../host/host_files.ts";
import { isUninstallRequested, takeLock } from "../host/lock.ts";
import type { Operations } from "../host/operations.ts";
import type { Settings } from "../settings/declarations.ts";
import { Grace } from "./grace.ts";
import { ReadyFile } from "./ready_file.ts";
import { type Pass, Reconciler } from "./reconcile.ts";
import { recover } from "./recover.ts";
import { canReadOwnPod, proveRemoval } from "./removal_proof.ts";
import { combineObservers, type Service, type State } from "./service.ts";
import { uninstall, type UninstallOptions } from "./uninstall.ts";
import { Watch } from "./watch.ts";

const longestBackoff = 30_000;
/** Milliseconds within which a started program has opened its own file. */
const startPatience = 2000;
/** Ticks between two full looks without any sign of a change. */
const fullLookEvery = 60;

/** Parts of an {@linkcode ReconcileLoop} that have defaults. */
export interface AgentOptions {
  /** Further parts of the agent, such as its socket and metrics. */
  readonly services?: readonly Service[];
  readonly uninstall?: UninstallOptions;
  /** Milliseconds for asking the API server at the end; by default 2500 of the 5 s grace period. */
  readonly proofTimeout?: number;
}

/** The running installer. */
export class ReconcileLoop {
  readonly #reconciler: Reconciler;
  readonly #ready: ReadyFile;
  readonly #services: readonly Service[];
  readonly #stop = new AbortController();
  readonly #grace = new Grace();
  #lock: Disposable | undefined;
  #state: State = { ready: false, reason: "Starting" };
  #wake: (() => void) | undefined;
  /** When the change was noticed that the next pass answers, in milliseconds. */
  #noticed: number | undefined;
  #lastPass = performance.now();
  #ticks = 0;
  #couldReadPod = false;
  #wasUninstalled = false;

  /** @param sourceDir Folder of the plugin's files. */
  constructor(
    private readonly settings: Settings,
    private readonly operations: Operations,
    sourceDir: string,
    private readonly log: Logger,
    private readonly options: AgentOptions = {},
  ) {
    this.#services = options.services ?? [];
    this.#ready = new ReadyFile(settings.readyFile);
    this.#reconciler = new Reconciler(
      settings,
      operations,
      sourceDir,
      log,
      combineObservers(this.#services.flatMap((service) => service.observer ?? [])),
    );
  }

  /** Whether pods that start now get their rules, and why. */
  get state(): State {
    return this.#state;
  }

  /** Whether the loop still turns. */
  get liveness(): { readonly alive: boolean; readonly reason: string } {
    const seconds = (performance.now() - this.#lastPass) / 1000;
    const bound = 2 * this.#tick / 1000 + 60;
    return seconds < bound
      ? { alive: true, reason: "The loop turns" }
      : { alive: false, reason: `The last look at the host began ${Math.round(seconds)} s ago` };
  }

  /** Ends {@linkcode run}. */
  stop(): void {
    this.#stop.abort();
    this.#wake?.();
  }

  /**
   * Makes the ready file say "no" before anything else.
   *
   * @throws when there is no telling the probe anything.
   */
  resetReady(): void {
    this.#ready.reset();
  }

  /**
   * Runs until stopped.
   *
   * @throws {UninstallError} when uninstalling at the end failed.
   */
  async run(): Promise<void> {
    const { settings } = this;
    using watch = new Watch(() => this.#notice());
    watch.add(settings.mountedNetDir, (path) => {
      const name = path.slice(path.lastIndexOf("/") + 1);
      return targetOfTemporaryName(name) === undefined;
    });
    // The bin dir may be a busy one such as /bin.
    watch.add(settings.mountedBinDir, (path) => path.startsWith(`${settings.mountedBinDir}/kuma-`));
    watch.add(folderOf(settings.tokenFile));
    const context = {
      settings,
      log: this.log,
      paths: this.#reconciler.paths,
      state: () => this.#state,
      liveness: () => this.liveness,
    };
    for (const service of this.#services) await service.start?.(context);
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      watch.refresh();
      const since = this.#noticed;
      this.#noticed = undefined;
      const pass = await this.#pass(since);
      if (!this.#wasUninstalled) { for (const service of this.#services) service.tick?.(); }
      failures = pass.failed ? failures + 1 : 0;
      const backoff = Math.min(longestBackoff, 100 * 2 ** Math.min(failures, 12));
      // A failed write causes events of its own, which must not bring about the next one.
      if (pass.failed) await this.#sleep(Math.min(backoff, pass.retryAfter ?? Infinity), false);
      else await this.#sleep(Math.min(this.#tick, pass.retryAfter ?? Infinity), true);
    }
    await this.#end();
  }

  /**
   * Installs once and leaves it installed.
   *
   * @param patience Milliseconds to wait for what is missing.
   * @returns Whether everything is installed.
   */
  async installOnce(patience: number): Promise<boolean> {
    const deadline = performance.now() + patience;
    for (let pause = 50; !this.#stop.signal.aborted; pause = Math.min(1000, pause * 2)) {
      await this.#pass(performance.now());
      if (this.#state.ready) break;
      if (performance.now() >= deadline) break;
      await this.#sleep(pause, false);
    }
    const { plugin } = this.#reconciler;
    if (this.#state.ready && plugin.hasReplaced) {
      // Nobody will look again later, and calls of the replaced program may just be starting.
      await this.#sleep(startPatience, false);
      plugin.removeReplaced();
    }
    this.#lock?.[Symbol.dispose]();
    return this.#state.ready;
  }

  get #tick(): number {
    return Math.min(this.settings.checkInterval, this.settings.tokenInterval) * 1000;
  }

  /** @param since When a change was noticed; `undefined` at a mere tick. */
  async #pass(since: number | undefined): Promise<Pass> {
    this.#lastPass = performance.now();
    const idle = (reason: string): Pass => {
      this.#setState({ ready: false, reason });
      return { ready: false, reason, failed: false, done: [] };
    };
    if (this.#wasUninstalled) return idle("Uninstalled on request; restart to install again");
    if (!this.#hasLock()) {
      return { ...idle("Waiting for another install-cni to end"), retryAfter: 100 };
    }
    if (isUninstallRequested(this.operations, this.#reconciler.paths.stateDir)) {
      idle("Uninstalling on request");
      try {
        for (const service of this.#services) await service.stop?.();
        await uninstall(this.settings, this.operations, this.log, this.options.uninstall);
      } catch (error) {
        this.log.error(errorText(error));
        return { ...idle(errorText(error)), failed: true };
      }
      this.#wasUninstalled = true;
      return idle("Uninstalled on request; restart to install again");
    }
    let pass: Pass;
    try {
      const isTick = since === undefined && ++this.#ticks % fullLookEvery !== 0;
      pass = isTick ? await this.#reconciler.quickPass() : await this.#reconciler.pass(since);
    } catch (error) {
      const reason = `Cannot look at the host: ${errorText(error)}`;
      this.log.error(reason);
      pass = { ready: undefined, reason, failed: true, done: [] };
    }
    const said = this.#grace.settle(pass.ready, this.#state.ready, performance.now());
    this.#setState({ ready: said.ready, reason: pass.reason });
    const retryAfter = Math.min(pass.retryAfter ?? Infinity, said.retryAfter ?? Infinity);
    return retryAfter === Infinity ? pass : { ...pass, retryAfter };
  }

  /** Holds the node's lock; without a folder to lock in, goes on without. */
  #hasLock(): boolean {
    if (this.#lock !== undefined) return true;
    try {
      this.#lock = takeLock(this.operations, this.#reconciler.paths.stateDir);
      if (this.#lock === undefined) {
        if (!this.#state.reason.startsWith("Waiting for another")) {
          this.log.info("Waiting for another install-cni on this node to end");
        }
        return false;
      }
      recover(this.settings, this.operations, this.log);
    } catch (error) {
      this.log.debug("Going on without the lock", { reason: errorText(error) });
    }
    return true;
  }

  #setState(state: State): void {
    const old = this.#state;
    this.#state = state;
    try {
      this.#ready.set(state.ready);
    } catch (error) {
      this.log.error(
        `Cannot write the ready file "${this.settings.readyFile}": ${errorText(error)}`,
      );
    }
    if (old.ready === state.ready) return;
    this.log.info(state.ready ? "Ready" : "Not ready", { reason: state.reason });
    for (const service of this.#services) service.observer?.state?.(state);
    if (state.ready && !this.#couldReadPod) void this.#tryOwnPod();
  }

  async #tryOwnPod(): Promise<void> {
    this.#couldReadPod = await canReadOwnPod(this.settings, this.#stop.signal);
  }

  #notice(): void {
    this.#noticed ??= performance.now();
    this.#wake?.();
  }

  /** Sleeps; events and the end wake it up early. */
  async #sleep(milliseconds: number, untilEvent: boolean): Promise<void> {
    if (this.#stop.signal.aborted || (untilEvent && this.#noticed !== undefined)) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        if (!untilEvent && !this.#stop.signal.aborted) return;
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }

  async #end(): Promise<void> {
    const { settings, log, options } = this;
    try {
      this.#ready.set(false);
      if (this.#wasUninstalled || !this.#hasLock()) return;
      const proof = settings.uninstallOnStop
        ? { kind: "removed" as const, reason: "KUMA_CNI_UNINSTALL is true" }
        : await proveRemoval(settings, this.#couldReadPod, options.proofTimeout ?? 2500);
      if (proof.kind === "removed") {
        log.info("Uninstalling", { reason: proof.reason });
        for (const service of this.#services) await service.stop?.();
        await uninstall(settings, this.operations, log, options.uninstall);
        return;
      }
      log.info("Stopping; the plugin stays installed", { reason: proof.reason });
    } finally {
      for (const service of this.#services) await service.stop?.();
      this.#lock?.[Symbol.dispose]();
    }
  }
}
