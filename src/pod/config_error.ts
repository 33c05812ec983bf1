/** A pod states something that cannot be done; the message is for people and names the setting. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** Quotes a text of a pod's author for a message: escaped and not longer than a line. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? text.slice(0, 79) + "…" : text);
}
