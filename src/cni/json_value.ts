/** What the readers of the network configuration need of JSON values, and their one kind of refusal. */
import { quote } from "../text/quote.ts";
import { CniError, CniErrorCode } from "./errors.ts";

/** Names a value's type for a message. */
export function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** Short scalars are quoted in messages; anything else could be long or secret. */
export function show(value: unknown): string {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value !== "string") return "";
  return quote(value, 64);
}

/**
 * Makes the error of a key with a wrong value.
 *
 * @param path Where the key stands.
 * @param expected What is allowed there.
 * @param hint Who has to correct it, and where.
 */
export function wrongValue(
  path: string,
  expected: string,
  actual: unknown,
  hint: string,
): CniError {
  const found = actual === undefined ? "nothing" : `${typeName(actual)} ${show(actual)}`.trimEnd();
  return new CniError(
    CniErrorCode.InvalidConfig,
    `Network configuration: "${path}" must be ${expected}, but it is ${found}`,
    hint,
  );
}
