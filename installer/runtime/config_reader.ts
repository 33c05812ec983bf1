/** How a runtime's configuration is read: files by their paths on the host. */
import { isRecord } from "../../src/json/record.ts";

/** Reads the host's files; what is missing or cannot be read is `undefined`. */
export interface ConfigReader {
  /** Text of a file. */
  read(path: string): string | undefined;
  /** Names in a folder, in the order of their bytes. */
  list(path: string): readonly string[] | undefined;
  /** Whether something is there: a file, a folder or a socket. */
  exists(path: string): boolean;
}

/** What is wrong with a file that is there and is not read, and what that means. */
export const unreadable =
  "it may not be read, is no file, or is too large, so defaults are assumed";

/** A table of a TOML document; an empty one when there is none. */
export type Table = Readonly<Record<string, unknown>>;

/** Returns a value as a table. */
export function tableOf(value: unknown): Table | undefined {
  return isRecord(value) ? value : undefined;
}

/** Returns a value as a list of texts. */
export function textsOf(value: unknown): string[] | undefined {
  return Array.isArray(value) && value.every((item) => typeof item === "string")
    ? value
    : undefined;
}

/** Returns a path without slashes at its end. */
export function withoutSlash(path: string): string {
  return path.replace(/(?<=.)\/+$/, "");
}
