/** The time that packages carry: none of the build, so that the same sources give the same bytes. */

/**
 * Reads `SOURCE_DATE_EPOCH` (reproducible-builds.org).
 *
 * @returns Seconds since 1970; 0 when it is not set.
 * @throws {TypeError} when it is not such a number.
 */
export function packageTime(): number {
  const text = Deno.env.get("SOURCE_DATE_EPOCH") || "0";
  const seconds = Number(text);
  if (/^\d+$/.test(text) && seconds < 8 ** 11) return seconds;
  throw new TypeError(
    `SOURCE_DATE_EPOCH is "${text}": expected seconds since 1970, for example the output of ` +
      '"git log -1 --format=%ct"',
  );
}
