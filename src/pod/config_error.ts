/** A pod states something that cannot be done; the message is for people and names the setting. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}
