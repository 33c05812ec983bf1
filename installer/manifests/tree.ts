/** Trees of values, as YAML and JSON have them, and Helm's two ways to lay one over another. */
import { isRecord, own } from "../../src/json/record.ts";

/** A mapping of YAML or JSON. */
export type Tree = Record<string, unknown>;

/** Something about the values is wrong; the message is one line that names the key and the fix. */
export class ValuesError extends Error {
  override readonly name = "ValuesError";
}

/** Sets an own member, whatever its name; `tree["__proto__"] = …` would set none. */
export function setMember(tree: Tree, key: string, value: unknown): void {
  Object.defineProperty(tree, key, {
    value,
    enumerable: true,
    writable: true,
    configurable: true,
  });
}

/**
 * Lays one source of values over another, as Helm does with several files: mappings are merged,
 * everything else is replaced. A null stays, since it is there to remove a default later.
 */
export function overlay(base: Tree, over: Tree): Tree {
  const result: Tree = {};
  for (const [key, value] of Object.entries(base)) setMember(result, key, value);
  for (const [key, value] of Object.entries(over)) {
    const below = own(result, key);
    setMember(result, key, isRecord(below) && isRecord(value) ? overlay(below, value) : value);
  }
  return result;
}

/** Takes out what a null has removed; nulls in lists stay, and are nobody's valid value. */
export function withoutNulls(tree: Tree): Tree {
  const result: Tree = {};
  for (const [key, value] of Object.entries(tree)) {
    if (value === null || value === undefined) continue;
    setMember(result, key, isRecord(value) ? withoutNulls(value) : value);
  }
  return result;
}

/** Says in words what a value is, for messages. */
export function describeValue(value: unknown): string {
  if (value === undefined || value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  const text = JSON.stringify(value);
  const shown = text.length <= 80 ? text : `${text.slice(0, 76)}..."`;
  return typeof value === "string" ? `the text ${shown}` : shown;
}
