/** Files that hold network configurations. */
import { JsonError, type JsonText, parseText } from "./json_edit.ts";

/** One configuration file of the net dir. */
export interface ConfFile {
  readonly name: string;
  /** Byte string of the content; `undefined` when it could not be read, see `problem`. */
  readonly text?: string;
  readonly problem?: string;
}

/** Tells whether runtimes look at a file of this name. */
export function isConfName(name: string): boolean {
  return /\.(conf|conflist|json)$/.test(name);
}

/** What was found in a file; who looks at the host again has other objects. */
const parsed = new WeakMap<ConfFile, { readonly json: JsonText } | { readonly error: unknown }>();

/**
 * Returns what a file says. It is parsed when somebody asks first, and once only: a decision asks
 * for each file several times.
 *
 * @throws {JsonError} when it could not be read, or is not JSON.
 */
export function jsonOf(file: ConfFile): JsonText {
  let result = parsed.get(file);
  if (result === undefined) {
    result = attempt(file);
    parsed.set(file, result);
  }
  if ("error" in result) throw result.error;
  return result.json;
}

function attempt({ text, problem }: ConfFile): { json: JsonText } | { error: unknown } {
  try {
    if (text === undefined) throw new JsonError(problem ?? "Cannot be read");
    return { json: parseText(text) };
  } catch (error) {
    return { error };
  }
}
