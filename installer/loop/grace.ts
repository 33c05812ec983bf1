/** How long readiness may stay as it was while a file that another program is writing cannot be read. */

/** Milliseconds of it: a writer takes a moment, a file that stays torn stops the runtime. */
export const graceTime = 3000;

/** Counts the time in which readiness cannot be told. */
export class Grace {
  #since: number | undefined;

  /**
   * Returns what is to be said.
   *
   * @param ready What the last look at the host says; `undefined`: it cannot be told.
   * @param before What was said last.
   * @param now Milliseconds of any clock that never goes back.
   * @returns Also after how many milliseconds to look again at the latest, when time is running.
   */
  settle(
    ready: boolean | undefined,
    before: boolean,
    now: number,
  ): { readonly ready: boolean; readonly retryAfter?: number } {
    if (ready !== undefined || !before) {
      this.#since = undefined;
      return { ready: ready ?? false };
    }
    this.#since ??= now;
    const left = this.#since + graceTime - now;
    return left > 0 ? { ready: true, retryAfter: left } : { ready: false };
  }
}
