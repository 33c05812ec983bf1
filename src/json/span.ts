/** Where values stand inside of JSON text, for those who change none of its other bytes. */

/** A half-open range of bytes. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * Returns where the value of a top-level key stands. Of several equal keys the last one counts, as
 * with `JSON.parse`.
 *
 * @param json UTF-8 bytes that `JSON.parse` has accepted as an object; for others the result has no
 * meaning.
 * @param key The key, compared after its escapes have been resolved.
 * @returns The span without surrounding white space, or `undefined` when there is no such key.
 */
export function topLevelValueSpan(json: Uint8Array, key: string): Span | undefined {
  let found: Span | undefined;
  let position = skipBlanks(json, 0);
  if (json[position] !== OPEN_BRACE) return undefined;
  position = skipBlanks(json, position + 1);
  while (json[position] === QUOTE) {
    const keyEnd = endOfString(json, position);
    const matches = isText(json, position, keyEnd, key);
    position = skipBlanks(json, keyEnd);
    if (json[position] !== COLON) return undefined;
    const start = skipBlanks(json, position + 1);
    const end = endOfValue(json, start);
    if (matches) found = { start, end };
    position = skipBlanks(json, end);
    if (json[position] !== COMMA) break;
    position = skipBlanks(json, position + 1);
  }
  return found;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** Returns the first position from `position` on that is not white space. */
export function skipBlanks(json: Uint8Array, position: number): number {
  while (isBlank(json[position])) position++;
  return position;
}

/** Returns the position behind a string's closing quotation mark, at most the end of the text. */
export function endOfString(json: Uint8Array, start: number): number {
  let position = start + 1;
  while (position < json.length && json[position] !== QUOTE) {
    position += json[position] === BACKSLASH ? 2 : 1;
  }
  return Math.min(position + 1, json.length);
}

function endOfValue(json: Uint8Array, start: number): number {
  if (json[start] === QUOTE) return endOfString(json, start);
  let position = start;
  let depth = 0;
  while (position < json.length) {
    const byte = json[position];
    if (byte === QUOTE) {
      position = endOfString(json, position);
      continue;
    }
    if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth++;
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (depth === 0) return position;
      if (--depth === 0) return position + 1;
    } else if (depth === 0 && (byte === COMMA || isBlank(byte))) {
      return position;
    }
    position++;
  }
  return position;
}

function isText(json: Uint8Array, start: number, end: number, text: string): boolean {
  // Escapes can make a key up to six times as long; anything longer cannot be equal.
  if (end - start > text.length * 6 + 2) return false;
  try {
    return JSON.parse(new TextDecoder().decode(json.subarray(start, end))) === text;
  } catch {
    return false;
  }
}
