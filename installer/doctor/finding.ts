/** What a look at a node has found, one finding for each fact. */
import { catalogue, type FindingCode } from "./catalogue.ts";

/**
 * How good a fact is. A `note` is neither good nor bad; `unknown` is what could not be looked at from
 * here; after a `warning` pods that start now are captured all the same, after a `failure` they may
 * not be.
 */
export type Grade = "ok" | "note" | "unknown" | "warning" | "failure";

/** One fact about the node. */
export interface Finding {
  /** What was looked at, in a few words: a stable name for machines, too. */
  readonly subject: string;
  readonly grade: Grade;
  /** What was found. */
  readonly text: string;
  /** What to do about it. */
  readonly fix?: string;
  /** Which finding of docs/doctor.md it is; what is good has none. */
  readonly code?: FindingCode;
}

/** Longest text of a finding. */
const longest = 2000;

/** Returns a text on one line that does nothing to a terminal: much of it others have written. */
export function plain(text: string): string {
  return text.slice(0, longest).replace(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]+/gu, " ");
}

/** Returns a finding as the catalogue declares it. */
export function found(code: FindingCode, text: string, fix?: string): Finding {
  const { subject, grade } = catalogue[code];
  return {
    subject,
    grade,
    code,
    text: plain(text),
    ...(fix === undefined ? {} : { fix: plain(fix) }),
  };
}

/** Returns a fact that is as it should be. */
export function good(subject: string, text: string): Finding {
  return { subject, grade: "ok", text: plain(text) };
}

/** Returns what could not be looked at, and why. */
export function notSeen(subject: string, what: string, why: string): Finding {
  return {
    subject,
    grade: "unknown",
    code: "not-seen",
    text: plain(`${what} cannot be seen here: ${why}`),
  };
}
