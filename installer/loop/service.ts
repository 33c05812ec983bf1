/** Parts of the running installer beside the installing itself: socket, metrics, health. */
import type { Logger } from "../../src/log/log.ts";
import type { Change } from "../host/changes.ts";
import type { Cause } from "../plan/steps.ts";
import type { Settings } from "../settings/declarations.ts";
import type { Paths } from "../settings/paths.ts";

/** Takes note of what the installer does; for metrics. Must not throw. */
export interface Observer {
  /** Everything was put in place for the first time by this process, in so many milliseconds. */
  installed?(milliseconds: number): void;
  /** A foreign change was repaired, in so many milliseconds from noticing it. */
  healed?(cause: Cause, milliseconds: number): void;
  /** A write was given up because another program changed the file meanwhile, or contends for it. */
  conflict?(file: string): void;
  /** Another program's write to the list was answered. */
  answered?(change: Change): void;
  /** Readiness changed. */
  state?(state: State): void;
}

/** Whether pods that start now get their rules. */
export interface State {
  readonly ready: boolean;
  /** In words for people. */
  readonly reason: string;
}

/** What a part may know. */
export interface ServiceContext {
  readonly settings: Settings;
  readonly log: Logger;
  readonly paths: Paths;
  /** Whether pods that start now get their rules, and why. */
  state(): State;
  /** Whether the loop still turns. */
  liveness(): { readonly alive: boolean; readonly reason: string };
}

/** A part of the running installer. Nothing here may throw into the loop. */
export interface Service {
  /** Takes note of what the installer does. */
  readonly observer?: Observer;
  /** Called once, before the first look at the host; its folders may still be missing. */
  start?(context: ServiceContext): void | Promise<void>;
  /** Called after each look at the host, about once a second and at each change. */
  tick?(): void;
  /** Called at the end; may be called twice. */
  stop?(): void | Promise<void>;
}

/** Makes one observer that tells several. */
export function combineObservers(observers: readonly Observer[]): Observer {
  return {
    installed: (milliseconds) => observers.forEach((o) => o.installed?.(milliseconds)),
    healed: (cause, milliseconds) => observers.forEach((o) => o.healed?.(cause, milliseconds)),
    answered: (change) => observers.forEach((o) => o.answered?.(change)),
    conflict: (file) => observers.forEach((o) => o.conflict?.(file)),
    state: (state) => observers.forEach((o) => o.state?.(state)),
  };
}
