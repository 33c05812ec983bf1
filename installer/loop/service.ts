/** Parts of the running installer beside the installing itself: socket, metrics, health. */
import type { Logger } from "../../src/log/log.ts";
import { AgentService } from "../agent/service.ts";
import { MemoryService } from "../agent/memory.ts";
import type { Observer, State } from "./reconcile.ts";
import type { Paths, Settings } from "../settings/settings.ts";

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

/** Makes the parts of this installer. */
export function createServices(settings: Settings): readonly Service[] {
  return [new AgentService(settings), new MemoryService()];
}

/** Makes one observer that tells several. */
export function combineObservers(observers: readonly Observer[]): Observer {
  return {
    installed: (milliseconds) => observers.forEach((o) => o.installed?.(milliseconds)),
    healed: (cause, milliseconds) => observers.forEach((o) => o.healed?.(cause, milliseconds)),
    conflict: (file) => observers.forEach((o) => o.conflict?.(file)),
    state: (state) => observers.forEach((o) => o.state?.(state)),
  };
}
