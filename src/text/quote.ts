/** Puts what others wrote into a message. */
import { shorten } from "./shorten.ts";

/**
 * Quotes a text that is not trusted: not longer than a line, and with nothing in it that would
 * command a terminal or turn the direction of writing.
 *
 * @param most Most characters of it; what is longer is cut, with a mark.
 */
export function quote(text: string, most = 80): string {
  return JSON.stringify(shorten(text, most))
    .replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);
}
