/** Says the same thing once a minute at most, and says when it is over. */
import type { Logger } from "../../src/log/log.ts";

/** Shortest time between two equal lines, in milliseconds. */
const pause = 60_000;
/** Different texts that are remembered; more of them come from a text that is never the same. */
const mostTexts = 100;

/** Tells people of trouble that each look finds again. */
export class Troubles {
  readonly #told = new Map<string, number>();
  /** Trouble of the last look that people were told of. */
  #standing: ReadonlySet<string> = new Set();

  /** @param now A clock in milliseconds that is never set back. */
  constructor(
    private readonly log: Pick<Logger, "info" | "warn" | "error">,
    private readonly now: () => number,
  ) {}

  /**
   * Tells of trouble, unless the same was told within the last minute.
   *
   * @returns Whether it was told.
   */
  tell(severity: "info" | "warn" | "error", message: string): boolean {
    const last = this.#told.get(message);
    if (last !== undefined && this.now() - last < pause) return false;
    if (this.#told.size >= mostTexts) this.#told.clear();
    this.#told.set(message, this.now());
    this.log[severity](message);
    return true;
  }

  /** Tells of all trouble that can wait; what was told before and is not among it any more is over. */
  standing(messages: readonly string[]): void {
    const told = messages.filter((message) =>
      this.tell("warn", message) || this.#standing.has(message)
    );
    for (const message of this.#standing) {
      if (!messages.includes(message)) this.log.info(`Over: ${message}`);
    }
    this.#standing = new Set(told);
  }
}
