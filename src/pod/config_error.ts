/** A pod states something that cannot be done; the message is for people and names the setting. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/**
 * Quotes a text of a pod's author for a message: not longer than a line, and with nothing in it that
 * would command a terminal or turn the direction of writing.
 */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? text.slice(0, 79) + "…" : text)
    .replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);
}
