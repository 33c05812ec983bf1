/** Keeps the running installer small: it has a node's memory for months and needs little of it. */
import { releaseProgramPages } from "../../src/linux/program_memory.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { PassingPages } from "../../src/linux/page_cache.ts";
import { isMemoryTight } from "../host/file_content.ts";
import type { Service, ServiceContext } from "../loop/service.ts";

/** Milliseconds after which the start is over, with what only it needed. */
const settled = 5000;
/** Milliseconds until what rare work has brought in meanwhile is let go of again. */
const interval = 10 * 60_000;

/** Milliseconds between two looks during the start. */
const startingInterval = 100;

/** Gives memory back when the start is over, and now and then. */
export class MemoryService implements Service {
  #next = performance.now() + settled;
  #context: ServiceContext | undefined;
  #starting: ReturnType<typeof setInterval> | undefined;

  start(context: ServiceContext): void {
    this.#context = context;
    if (!isMemoryTight()) return;
    this.#attempt(() => releaseProgramPages(Deno.execPath()));
    this.#forget();
    // Copying the plugin comes next, and the kernel reads this program ahead of what is used of it.
    this.#starting = setInterval(() => this.#forget(), startingInterval);
  }

  stop(): void {
    clearInterval(this.#starting);
  }

  /**
   * Lets the kernel forget what is in memory of this program's file and not in use: it counts towards
   * the container's limit, which the reference manifest sets to 100 MiB.
   */
  #forget(): void {
    this.#attempt(() => {
      const program = Deno.execPath();
      using pages = new PassingPages(program);
      pages.forget(0, Deno.statSync(program).size);
    });
  }

  tick(): void {
    if (performance.now() < this.#next) return;
    this.#next = performance.now() + interval;
    clearInterval(this.#starting);
    if (isMemoryTight()) this.#forget();
    this.#attempt(() => releaseProgramPages(Deno.execPath()));
  }

  #attempt(work: () => unknown): void {
    try {
      work();
    } catch (error) {
      this.#context?.log.debug("Memory is not given back", {
        reason: messageOf(error),
      });
    }
  }
}
