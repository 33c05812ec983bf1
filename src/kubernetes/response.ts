/** Makes sense of answers and failures of an API server. */
import { isRecord } from "../json/record.ts";
import { messageOf } from "../text/message_of.ts";
import type { Answer } from "./answer.ts";
import type { CertificateProblem } from "./errors.ts";

/**
 * Understands what rustls or Node's TLS says when the other side is not who it should be, or talks no
 * TLS: these have no codes.
 *
 * @returns `undefined` when the reason is of another kind.
 */
export function certificateProblem(reason: string): CertificateProblem | undefined {
  if (!/invalid peer certificate|fatal alert|corrupt message|InvalidContentType/.test(reason)) {
    return undefined;
  }
  if (/UnknownIssuer|BadSignature/.test(reason)) return "unknown-authority";
  if (/not valid for name|NotValidForName/.test(reason)) return "other-name";
  if (/[Ee]xpired|NotValidYet|not valid yet/.test(reason)) return "out-of-time";
  return "other";
}

/** The network layers throw plain errors; errors of a class of their own come from this program. */
export function isNetworkError(error: unknown): boolean {
  return error instanceof Error &&
    (error.name === "Error" || error instanceof TypeError || error.name in Deno.errors);
}

/** The telling part of an error's message: `fetch` puts addresses and layers in front of it. */
export function reasonOf(error: unknown): string {
  // Deno 2.9 says "fetch failed", and the reason only in the cause.
  if (error instanceof Error && error.message === "fetch failed" && error.cause !== undefined) {
    return reasonOf(error.cause);
  }
  const message = messageOf(error);
  const telling = /client error \([A-Za-z]+\): (.*)$/s.exec(message)?.[1] ?? message;
  return telling.slice(0, 300);
}

/**
 * Turns a body into text.
 *
 * @throws {TypeError} when it is not UTF-8. Bytes that become replacement characters could hide what
 * an annotation says: `tr\xffe` is not the `true` that somebody has written.
 */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new TypeError("it is not UTF-8", { cause });
  }
}

/** The Status object in an answer's body; empty when there is none. */
export function statusObject(body: Uint8Array | undefined): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(new TextDecoder().decode(body));
    return isRecord(json) && json.kind === "Status" ? json : {};
  } catch {
    return {};
  }
}

/**
 * The server's wish for how long to wait, in milliseconds: `Retry-After` is seconds or a date (RFC
 * 9110 §10.2.3), a Status object has seconds.
 */
export function retryAfter(
  headers: Answer["headers"],
  status: Record<string, unknown>,
): number | undefined {
  const header = headers.get("retry-after") ?? "";
  const details = isRecord(status.details) ? status.details.retryAfterSeconds : undefined;
  const milliseconds = /^[0-9]+$/.test(header)
    ? Number(header) * 1000
    : header !== ""
    ? Date.parse(header) - Date.now()
    : typeof details === "number"
    ? details * 1000
    : NaN;
  return milliseconds >= 0 ? milliseconds : undefined;
}
