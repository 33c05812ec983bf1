/** Takes out of texts what nobody else may read: tokens, keys, passwords. Pure. */
import { isRecord } from "../../src/json/record.ts";

/** What stands in place of a secret. */
export const removed = "(removed)";

/** Names of values that are, or may be, secrets. */
const secretName = /token|passw|secret|credential|auth|private|key|cert|cookie|bearer/i;

/** Longest nesting of JSON, and of JSON in texts. */
const deepest = 32;

/**
 * Returns a text without what looks like a secret, and without known ones.
 *
 * @param known Secrets themselves, for example the account's token.
 */
export function withoutSecrets(text: string, known: readonly string[]): string {
  let clean = text;
  for (const secret of known) {
    // What is so short is found in any text, and is no token.
    if (secret.length >= 8) clean = clean.replaceAll(secret, removed);
  }
  return clean
    .replace(
      /-----BEGIN [A-Z ]*PRIVATE KEY-----[^]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g,
      removed,
    )
    .replace(/\beyJ[\w-]+\.[\w-]+(\.[\w-]*)?/g, removed)
    .replace(/\b(Bearer|Basic)\s+[\w.~+/=-]{6,}/gi, `$1 ${removed}`)
    .replace(/:\/\/[^\s/@"]+@/g, `://${removed}@`);
}

/** Returns a JSON value without secrets: by the names of its members, and by what texts look like. */
export function withoutSecretMembers(
  value: unknown,
  known: readonly string[],
  depth = 0,
): unknown {
  if (depth > deepest) return removed;
  if (Array.isArray(value)) {
    return value.map((item) => withoutSecretMembers(item, known, depth + 1));
  }
  if (isRecord(value)) {
    return Object.fromEntries(
      Object.entries(value).map(([name, member]) => [
        name,
        secretName.test(name) && typeof member !== "boolean"
          ? removed
          : withoutSecretMembers(member, known, depth + 1),
      ]),
    );
  }
  return typeof value === "string" ? withoutSecretText(value, known, depth) : value;
}

function withoutSecretText(text: string, known: readonly string[], depth: number): string {
  if (/^\s*[{[]/.test(text)) {
    try {
      return JSON.stringify(withoutSecretMembers(JSON.parse(text), known, depth + 1));
    } catch {
      // It only looks like JSON.
      return removed;
    }
  }
  // Long and without any word in it: encoded bytes, which may be anything.
  if (/^[A-Za-z0-9+/_=-]{32,}$/.test(text) && !text.startsWith("/") && /\d/.test(text)) {
    return removed;
  }
  return withoutSecrets(text, known);
}
