/** JSON Patch (RFC 6902), of the operations that an API server is asked for. */

/** One operation. */
export interface PatchOperation {
  readonly op: string;
  readonly path: string;
  readonly value?: unknown;
}

/** The patch cannot be applied; nothing of it is. */
export class PatchError extends Error {}

/**
 * Applies a patch to a copy.
 *
 * @throws {PatchError} when a test fails, or a place is not there.
 */
export function applyJsonPatch<T>(document: T, operations: readonly PatchOperation[]): T {
  const copy = structuredClone(document);
  for (const operation of operations) applyOne(copy, operation);
  return copy;
}

function applyOne(document: unknown, { op, path, value }: PatchOperation): void {
  const keys = path.split("/").slice(1)
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = keys.pop();
  if (last === undefined) throw new PatchError(`cannot ${op} the whole document`);
  let parent: unknown = document;
  for (const key of keys) parent = memberOf(parent, key);
  if (typeof parent !== "object" || parent === null) {
    throw new PatchError(`${op} operation does not apply: doc is missing path: "${path}"`);
  }
  const list = Array.isArray(parent) ? parent : undefined;
  const isThere = memberOf(parent, last) !== undefined;
  switch (op) {
    case "test":
      if (!isEqual(memberOf(parent, last), value)) {
        throw new PatchError(`testing value ${path} failed: test failed`);
      }
      return;
    case "add":
      if (list === undefined) (parent as Record<string, unknown>)[last] = value;
      else if (last === "-") list.push(value);
      else list.splice(Number(last), 0, value);
      return;
    case "replace":
    case "remove":
      if (!isThere) throw new PatchError(`${op} operation does not apply: missing key "${path}"`);
      if (op === "replace") (parent as Record<string, unknown>)[last] = value;
      else if (list === undefined) delete (parent as Record<string, unknown>)[last];
      else list.splice(Number(last), 1);
      return;
  }
  throw new PatchError(`unexpected kind "${op}"`);
}

function memberOf(value: unknown, key: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
}

/** JSON values are equal whatever the order of their keys. */
function isEqual(a: unknown, b: unknown): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1).map((
      [key, item],
    ) => [key, sorted(item)]),
  );
}
