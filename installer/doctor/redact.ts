/**
 * Takes out of texts what nobody else may read: tokens, keys, passwords. When in doubt it is taken out.
 * Linear in what it reads, since that is what others have written. Pure.
 */
import { isRecord, own } from "../../src/json/record.ts";

/** What stands in place of a secret. */
export const removed = "(removed)";

/** Names of values that are, or may be, secrets. */
const secretName =
  /token|pass|pwd|psk|secret|credential|auth|private|key|cert|cookie|bearer|jwt|session|signature|sig$|conn.*str|dsn|webhook/i;

/** Longest nesting of JSON, and of JSON in texts. */
const deepest = 32;

/** What is so short is found in any text, and is no token. */
const shortest = 8;

/**
 * Returns a text without what looks like a secret, and without known ones in any of their forms.
 *
 * @param known Secrets themselves, for example the account's token.
 */
export function withoutSecrets(text: string, known: readonly string[]): string {
  let clean = text;
  for (const secret of known) {
    for (const form of formsOf(secret)) clean = clean.replaceAll(form, removed);
  }
  return withoutKeys(clean)
    .replace(/[\w.-]{16,}/g, (run) => isToken(run) ? removed : run)
    .replace(/\b(Bearer|Basic|Digest|Negotiate)[ \t:=]{1,8}[\w.~+/=-]{6,}/gi, `$1 ${removed}`)
    .replace(/:\/\/[^\s/@"]{1,1024}@/g, `://${removed}@`)
    // name=value, "name": value, and name: value on a line of its own.
    .replace(
      /(^[ \t]{0,64}|["'?&;,\s]|--)([\w.-]{1,64})(=|["']: ?|(?<=^[ \t]{0,64}[\w.-]{1,64}): )(["']?)([^\s"'&;,}]{1,4096})/gm,
      (whole, before, name, sign, quote, value) =>
        secretName.test(name) && !harmless.test(name) && value !== removed
          ? `${before}${name}${sign}${quote}${removed}`
          : whole,
    );
}

/** Whether a word has a JSON Web Token in it, or a piece of one that was cut off in front. */
function isToken(word: string): boolean {
  if (word.includes("eyJ")) return true;
  const isEncoded = (part = "") => part.length >= 16 && /[a-z]/.test(part) && /[A-Z]/.test(part);
  const parts = word.split(".");
  return parts.some((part, i) => isEncoded(part) && isEncoded(parts[i + 1]));
}

/** Names of our own settings, whose values are paths. */
const harmless = /^(KUBE_SERVICE_ACCOUNT_TOKEN_PATH|tokenFile)$/;

/** A secret as it stands, and as others write it down. */
function formsOf(secret: string): string[] {
  if (secret.length < shortest) return [];
  const encoded = new TextEncoder().encode(secret).toBase64();
  // Within something longer its base64 begins and ends elsewhere, but the middle is the same.
  const shifted = [1, 2].map((count) =>
    new TextEncoder().encode(" ".repeat(count) + secret).toBase64().slice(4, -4)
  );
  const json = JSON.stringify(secret).slice(1, -1);
  return [secret, json, encodeURIComponent(secret), encoded.replace(/=+$/, ""), ...shifted]
    .filter((form) => form.length >= shortest);
}

/** Without private keys, each to its end, or to that of the text. */
function withoutKeys(text: string): string {
  const begin = /-----BEGIN [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----/g;
  let clean = "";
  let at = 0;
  for (let match = begin.exec(text); match !== null; match = begin.exec(text)) {
    clean += text.slice(at, match.index) + removed;
    const end = text.indexOf("-----END ", match.index);
    const close = end < 0 ? -1 : text.indexOf("-----", end + 9);
    at = close < 0 ? text.length : close + 5;
    begin.lastIndex = at;
  }
  return clean + text.slice(at);
}

/** Returns a JSON value without secrets: by the names of its members, and by what texts look like. */
export function withoutSecretMembers(
  value: unknown,
  known: readonly string[],
  depth = 0,
): unknown {
  if (depth > deepest) return removed;
  const clean = (member: unknown) => withoutSecretMembers(member, known, depth + 1);
  if (Array.isArray(value)) {
    // Command lines: `["--token", "…"]`.
    return value.map((item, i) =>
      typeof item === "string" && isSecretFlag(value[i - 1]) ? removed : clean(item)
    );
  }
  if (isRecord(value)) {
    // Environments: `{"name": "PASSWORD", "value": "…"}`.
    const name = own(value, "name") ?? own(value, "key");
    const isSecret = typeof name === "string" && secretName.test(name);
    return Object.fromEntries(
      Object.entries(value).map(([name, member]) => [
        withoutSecretText(name, known, depth),
        isHidden(name, member) || (isSecret && name === "value") ? removed : clean(member),
      ]),
    );
  }
  return typeof value === "string" ? withoutSecretText(value, known, depth) : value;
}

function isHidden(name: string, member: unknown): boolean {
  return secretName.test(name) && !harmless.test(name) && typeof member !== "boolean";
}

function isSecretFlag(item: unknown): boolean {
  return typeof item === "string" && /^--?\w/.test(item) && !item.includes("=") &&
    secretName.test(item);
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
