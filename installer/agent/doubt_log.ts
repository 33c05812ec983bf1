/** Tells people of doubts: when they come, now and then while they stay, and when they are over. */
import type { Logger } from "../../src/log/log.ts";
import type { Doubt, DoubtCode } from "../cluster/doubts.ts";

/** Shortest time between two lines about the same kind of doubt, in milliseconds. */
const pause = 60_000;
/** Time after which a lasting one is told again. */
const reminder = 10 * 60_000;

interface Standing {
  readonly since: number;
  readonly text: string;
  /** People know of this one, so they hear of its end. */
  told: boolean;
}

/** The log of doubts. */
export class DoubtLog {
  readonly #standing = new Map<DoubtCode, Standing>();
  readonly #toldAt = new Map<DoubtCode, number>();

  /** @param now A clock in milliseconds that is never set back. */
  constructor(
    private readonly log: Pick<Logger, "info" | "warn">,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Takes note of all doubts that there are now. */
  update(doubts: readonly Doubt[]): void {
    const now = this.now();
    for (const { code, text } of doubts) {
      const known = this.#standing.get(code) ?? { since: now, text, told: false };
      this.#standing.set(code, known);
      if (now - (this.#toldAt.get(code) ?? -Infinity) < (known.told ? reminder : pause)) continue;
      this.log.warn(text);
      this.#toldAt.set(code, now);
      known.told = true;
    }
    for (const [code, { since, text, told }] of this.#standing) {
      if (doubts.some((doubt) => doubt.code === code)) continue;
      this.#standing.delete(code);
      if (told) this.log.info(`Over after ${Math.round((now - since) / 1000)} s: ${text}`);
    }
  }
}
