/** Until when a service account's token is good, as the token itself says. */
import { isRecord } from "../json/record.ts";

/** A real service account's token has some 1,000 characters. */
const longestToken = 16 * 1024;

/** The last moment that a `Date` can hold (ECMA-262 §21.4.1.1), in seconds since the epoch. */
const lastSecond = 8.64e12;

/** When a token was made and until when it is good, in milliseconds since the epoch. */
export interface TokenTimes {
  readonly issued: number | undefined;
  readonly expires: number | undefined;
}

/**
 * Reads the claims `iat` and `exp` of a JSON Web Token (RFC 7519 §4.1), in the form of three base64url
 * parts that the API server issues (RFC 7515 §3.1). Nothing is verified: this tells when to expect
 * trouble, never whether to trust the token.
 *
 * @returns `undefined` for each time that the token does not tell, and for other kinds of tokens.
 */
export function tokenTimes(token: string): TokenTimes {
  const nothing = { issued: undefined, expires: undefined };
  if (token.length > longestToken) return nothing;
  const claims = /^[\w-]+\.([\w-]+)\.[\w-]*$/.exec(token.trim())?.[1];
  if (claims === undefined) return nothing;
  try {
    const json: unknown = JSON.parse(
      new TextDecoder().decode(Uint8Array.fromBase64(claims, { alphabet: "base64url" })),
    );
    return isRecord(json) ? { issued: timeOf(json, "iat"), expires: timeOf(json, "exp") } : nothing;
  } catch {
    return nothing;
  }
}

function timeOf(claims: Record<string, unknown>, name: string): number | undefined {
  const value = Object.hasOwn(claims, name) ? claims[name] : undefined;
  return typeof value === "number" && value > 0 && value <= lastSecond
    ? Math.floor(value * 1000)
    : undefined;
}

/** What every token that the API server issues is renewed before, in milliseconds. */
const latestRenewal = 5 * 60_000;

/**
 * Tells whether a token should have been renewed by now. Kubelet does that when a fifth of the time is
 * left (Kubernetes documentation, "Service account token volume projection"): five minutes before the
 * end for those of an hour and more, in the last tenth for the short-lived, is too late.
 *
 * @param now Milliseconds since the epoch.
 * @returns `false` for a token that never expires; `true` for one that has expired.
 */
export function isOverdue({ issued, expires }: TokenTimes, now: number): boolean {
  if (expires === undefined) return false;
  const life = expires - (issued ?? -Infinity);
  return expires - now <= Math.max(0, Math.min(latestRenewal, life / 10));
}
