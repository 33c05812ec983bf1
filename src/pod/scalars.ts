/** Numbers and booleans as people write them into annotations and YAML. */
import { quote } from "../text/quote.ts";
import { ConfigError } from "./config_error.ts";

/** Most entries that one list of a pod may have: enough for people, too few to stall a node. */
export const MAX_ENTRIES = 500;

/** Highest UID; 2³²−1 means "no user" to the kernel. */
export const MAX_UID = 4294967294;

/**
 * Reads decimal digits.
 *
 * @returns The number, or `undefined` when the text is anything else or outside `min`–`max`.
 */
export function parseDecimal(text: string, min: number, max: number): number | undefined {
  if (!/^[0-9]{1,10}$/.test(text)) return undefined;
  const value = Number(text);
  return value >= min && value <= max ? value : undefined;
}

/**
 * Reads a port from text with blanks around it.
 *
 * @param setting The setting's name for the message.
 * @throws {ConfigError} when it is no port 1–65535.
 */
export function parsePort(text: string, setting: string): number {
  const port = parseDecimal(text.trim(), 1, 65535);
  if (port === undefined) {
    throw new ConfigError(`${setting} holds ${quote(text)} where a port 1-65535 is expected`);
  }
  return port;
}

/**
 * Splits a list at a separator; blanks round the entries and empty entries do not count.
 *
 * @throws {ConfigError} when it has more than {@linkcode MAX_ENTRIES} entries.
 */
export function splitList(text: string, separator: string, setting: string): string[] {
  const entries = text.split(separator).map((entry) => entry.trim()).filter((entry) =>
    entry !== ""
  );
  checkLength(entries.length, setting);
  return entries;
}

/** Bounds the length of a list. @throws {ConfigError} when it is too long. */
export function checkLength(length: number, setting: string): void {
  if (length > MAX_ENTRIES) {
    throw new ConfigError(`${setting} has ${length} entries, more than ${MAX_ENTRIES}`);
  }
}

/** Reads a boolean of YAML 1.1 or of Kuma's annotations, in any case; `undefined` for others. */
export function parseBoolean(text: string): boolean | undefined {
  switch (text.trim().toLowerCase()) {
    case "true":
    case "enabled":
    case "yes":
    case "on":
    case "y":
      return true;
    case "false":
    case "disabled":
    case "no":
    case "off":
    case "n":
      return false;
    default:
      return undefined;
  }
}
