/** Bounds of what all connections to the agent's socket cost together. */
import type { LineBudget } from "../../src/agent/lines.ts";

/** The connections together hold as much as they may. */
export class OverloadError extends Error {
  override readonly name = "OverloadError";
}

/** Memory that all connections share: the one that would exceed it is dropped. */
export class SocketBudget implements LineBudget {
  #used = 0;

  /** @param bytes Most bytes of unfinished lines, in both directions. */
  constructor(private readonly bytes: number) {}

  /** Bytes that are held now. */
  get used(): number {
    return this.#used;
  }

  resize(from: number, to: number): void {
    const next = this.#used + to - from;
    if (to > from && next > this.bytes) {
      throw new OverloadError(`Connections hold more than ${this.bytes} bytes together`);
    }
    this.#used = next;
  }
}

/** Work of which only so much is done at once; the rest waits for its turn. */
export class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Does the work when it is its turn. */
  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
