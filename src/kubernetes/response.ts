/** Makes sense of answers and failures of an API server. */
import type { WholeAnswer } from "./direct.ts";
import { ApiError } from "./errors.ts";

/** Tells whether rustls says that the other side is not who it should be, or talks no TLS. */
export function isTlsRefusal(reason: string): boolean {
  return /invalid peer certificate|fatal alert|corrupt message|InvalidContentType/.test(reason);
}

/** The network layers throw plain errors; errors of a class of their own come from this program. */
export function isNetworkError(error: unknown): boolean {
  return error instanceof Error &&
    (error.name === "Error" || error instanceof TypeError || error.name in Deno.errors);
}

/** The telling part of an error's message: `fetch` puts addresses and layers in front of it. */
export function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const telling = /client error \([A-Za-z]+\): (.*)$/s.exec(message)?.[1] ?? message;
  return telling.slice(0, 300);
}

/** What a server has answered. */
export type Answer = Response | WholeAnswer;

/**
 * Reads a body as text; `undefined` when it is longer than `maximum` bytes.
 *
 * @param strict Whether text that is not UTF-8 is refused: read loosely, the mark of a meshed pod
 * (`tr\xffe`) would become another text, and the pod would be passed through.
 * @throws {ApiError} when it is strict and the body is not UTF-8.
 */
export async function readText(
  response: Answer,
  maximum: number,
  { strict = false } = {},
): Promise<string | undefined> {
  const decoder = new TextDecoder("utf-8", { fatal: strict });
  const decode = (bytes?: Uint8Array, stream = false): string => {
    try {
      return decoder.decode(bytes as Uint8Array<ArrayBuffer>, { stream });
    } catch {
      throw new ApiError("The API server's answer is not UTF-8 text", {
        kind: "content",
        temporary: false,
      });
    }
  };
  if ("whole" in response) {
    return response.whole.length > maximum ? undefined : decode(response.whole);
  }
  const announced = response.headers.get("content-length");
  if (
    announced !== null && Number(announced) <= maximum && !response.headers.has("content-encoding")
  ) {
    // The length bounds the body, and reading it whole spares the start of the streams' machinery.
    return decode(await response.bytes());
  }
  let text = "";
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    // Leaving the loop cancels the body.
    if (length > maximum) return undefined;
    text += decode(chunk, true);
  }
  return text + decode();
}

/** The Status object in an answer's text; empty when there is none. */
export function statusObject(text: string | undefined): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(text ?? "");
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

/** Tells whether a value is an object with keys. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
