/** Keeps the running installer small: it has a node's memory for months and needs little of it. */
import { releaseProgramPages } from "../../src/linux/program_memory.ts";
import type { Service, ServiceContext } from "../loop/service.ts";

/** Milliseconds after which the start is over, with what only it needed. */
const settled = 5000;
/** Milliseconds until what rare work has brought in meanwhile is let go of again. */
const interval = 10 * 60_000;

/** Gives memory back when the start is over, and now and then. */
export class MemoryService implements Service {
  #next = performance.now() + settled;
  #context: ServiceContext | undefined;

  start(context: ServiceContext): void {
    this.#context = context;
  }

  tick(): void {
    if (performance.now() < this.#next) return;
    this.#next = performance.now() + interval;
    try {
      releaseProgramPages(Deno.execPath());
    } catch (error) {
      this.#context?.log.debug("Memory is not given back", {
        reason: error instanceof Error ? error.message : String(error),
      });
    }
  }
}
