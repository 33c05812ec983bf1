/** Until when a service account's token is good, as the token itself says. */
import { isRecord } from "../json/record.ts";

/** A real service account's token has some 1,000 characters. */
const longestToken = 16 * 1024;

/** The last moment that a `Date` can hold (ECMA-262 §21.4.1.1), in seconds since the epoch. */
const lastSecond = 8.64e12;

/**
 * Reads the claim `exp` of a JSON Web Token (RFC 7519 §4.1.4), in the form of three base64url parts
 * that the API server issues (RFC 7515 §3.1). Nothing is verified: this tells when to expect trouble,
 * never whether to trust the token.
 *
 * @returns Milliseconds since the epoch; `undefined` when this is another kind of token, or one
 * that never expires.
 */
export function tokenExpiry(token: string): number | undefined {
  if (token.length > longestToken) return undefined;
  const claims = /^[\w-]+\.([\w-]+)\.[\w-]*$/.exec(token.trim())?.[1];
  if (claims === undefined) return undefined;
  try {
    const json: unknown = JSON.parse(
      new TextDecoder().decode(Uint8Array.fromBase64(claims, { alphabet: "base64url" })),
    );
    if (!isRecord(json) || !Object.hasOwn(json, "exp")) return undefined;
    const { exp } = json;
    if (typeof exp !== "number" || !(exp > 0 && exp <= lastSecond)) return undefined;
    return Math.floor(exp * 1000);
  } catch {
    return undefined;
  }
}
