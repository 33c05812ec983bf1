/** Remembers what other programs have done to the list, for `install-cni doctor`. */
import { type Change, mostChanges, readChanges, writeChanges } from "../host/changes.ts";
import type { Operations } from "../host/operations.ts";
import type { Observer, Service, ServiceContext } from "./service.ts";

/** Keeps the last changes; they go to the host after a look, never before a repair. */
export class ChangeMemory implements Service {
  #changes: Change[] = [];
  #isWritten = true;
  #context: ServiceContext | undefined;
  readonly observer: Observer = {
    answered: (change) => {
      this.#changes = [...this.#changes, change].slice(-mostChanges);
      this.#isWritten = false;
    },
  };

  constructor(private readonly operations: Operations) {}

  start(context: ServiceContext): void {
    this.#context = context;
    this.#changes = readChanges(this.operations, context.paths.stateDir);
  }

  tick(): void {
    const context = this.#context;
    if (this.#isWritten || context === undefined) return;
    this.#isWritten = true;
    try {
      writeChanges(this.operations, context.paths.stateDir, this.#changes);
    } catch (error) {
      // Only a memory: what it is about has been put right.
      context.log.debug("What other programs wrote is not remembered", { reason: `${error}` });
    }
  }
}
