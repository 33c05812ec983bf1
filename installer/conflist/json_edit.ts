/**
 * A JSON parser that remembers where each value stands, so that an editor can change one value of a
 * text and leave every other byte alone: key order, numbers, indentation, line ends, invalid UTF-8.
 *
 * Texts are "byte strings": one character per byte (ISO 8859-1), made by {@linkcode byteString}.
 * Grammar: RFC 8259, as Go's `encoding/json` (the container runtimes' parser) accepts it; a byte
 * order mark and anything after the top-level value are errors there too.
 */
import { Buffer } from "node:buffer";
import { endOfString, skipBlanks, type Span } from "../../src/json/span.ts";

/** A value and the half-open span `[start, end)` of its text. */
export type JsonNode = JsonObject | JsonArray | JsonScalar;

/** An object; members in the order of the text, repeated keys included. */
export interface JsonObject extends Span {
  readonly kind: "object";
  readonly members: readonly JsonMember[];
}

/** One member of an object. */
export interface JsonMember {
  /** The decoded key. */
  readonly key: string;
  /** Where the key's opening quotation mark stands. */
  readonly keyStart: number;
  /** Behind the key's closing quotation mark. */
  readonly keyEnd: number;
  readonly value: JsonNode;
}

/** An array. */
export interface JsonArray extends Span {
  readonly kind: "array";
  readonly items: readonly JsonNode[];
}

/** A string, number, boolean or null. */
export interface JsonScalar extends Span {
  readonly kind: "scalar";
  readonly value: string | number | boolean | null;
}

/** A byte string with what it says. */
export interface JsonText {
  readonly text: string;
  readonly root: JsonNode;
}

/** A text is not JSON; the message names line and column. */
export class JsonError extends Error {
  override readonly name = "JsonError";
}

/** Returns bytes as a string of one character per byte. */
export function byteString(bytes: Uint8Array): string {
  // Node's Buffer takes ten times as long here, and 40 MB of memory for each megabyte.
  const pieces: string[] = [];
  for (let at = 0; at < bytes.length; at += 8192) {
    const piece: ArrayLike<number> = bytes.subarray(at, at + 8192);
    pieces.push(String.fromCharCode.apply(null, piece as number[]));
  }
  return pieces.join("");
}

/** Returns text (UTF-16) as the byte string of its UTF-8 form. */
export function byteStringOf(text: string): string {
  return byteString(new TextEncoder().encode(text));
}

/** Returns the bytes of a byte string. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text, "latin1"));
}

const depthLimit = 200;
/** Each value costs some 80 bytes of memory; real configurations have a few hundred. */
const valueLimit = 100_000;

/**
 * Parses a byte string.
 *
 * @param text One character per byte.
 * @returns The top-level value with all spans.
 * @throws {JsonError} when it is not JSON, nested deeper than 200 levels, or has more than 100,000
 * values.
 */
export function parseJson(text: string): JsonNode {
  const bytes = bytesOf(text);
  let at = 0;
  let values = 0;

  const fail = (expected: string): never => {
    const before = text.slice(0, at);
    const line = before.split("\n").length;
    const column = at - before.lastIndexOf("\n");
    const found = at >= text.length ? "the end of the text" : JSON.stringify(text[at]);
    throw new JsonError(`Expected ${expected} at line ${line}, column ${column}, found ${found}`);
  };
  const space = (): void => {
    at = skipBlanks(bytes, at);
  };
  const string = (): string => {
    const start = at;
    const end = endOfString(bytes, start);
    const control = bytes.subarray(start, end).findIndex((byte) => byte < 0x20);
    if (control >= 0) {
      at += control;
      fail("no control character in a string");
    }
    try {
      const decoded = JSON.parse(new TextDecoder().decode(bytes.subarray(start, end)));
      at = end;
      return decoded;
    } catch {
      return fail("a string with a closing quotation mark and valid escapes");
    }
  };
  const value = (depth: number): JsonNode => {
    if (depth > depthLimit) fail(`at most ${depthLimit} nested values`);
    if (++values > valueLimit) fail(`at most ${valueLimit} values`);
    const start = at;
    const c = text[at];
    if (c === "{") {
      const members: JsonMember[] = [];
      at++;
      space();
      if (text[at] === "}") return { kind: "object", start, end: ++at, members };
      for (;;) {
        space();
        if (text[at] !== '"') fail("a key");
        const keyStart = at;
        const key = string();
        const keyEnd = at;
        space();
        if (text[at] !== ":") fail('":"');
        at++;
        space();
        members.push({ key, keyStart, keyEnd, value: value(depth + 1) });
        space();
        if (text[at] === "}") return { kind: "object", start, end: ++at, members };
        if (text[at] !== ",") fail('"," or "}"');
        at++;
      }
    }
    if (c === "[") {
      const items: JsonNode[] = [];
      at++;
      space();
      if (text[at] === "]") return { kind: "array", start, end: ++at, items };
      for (;;) {
        space();
        items.push(value(depth + 1));
        space();
        if (text[at] === "]") return { kind: "array", start, end: ++at, items };
        if (text[at] !== ",") fail('"," or "]"');
        at++;
      }
    }
    if (c === '"') return { kind: "scalar", start, value: string(), end: at };
    const token = /(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)/y;
    token.lastIndex = at;
    const word = token.exec(text)?.[0] ?? fail("a value");
    at += word.length;
    return { kind: "scalar", start, end: at, value: JSON.parse(word) };
  };

  space();
  const node = value(0);
  space();
  if (at < text.length) fail("the end of the text");
  return node;
}

/**
 * Parses a byte string and keeps it beside its value, for those who edit it.
 *
 * @throws {JsonError} as {@linkcode parseJson} does.
 */
export function parseText(text: string): JsonText {
  return { text, root: parseJson(text) };
}

/** Returns a member's value; of repeated keys the last one, as Go's parser does. */
export function memberOf(node: JsonNode, key: string): JsonNode | undefined {
  if (node.kind !== "object") return undefined;
  return node.members.findLast((m) => m.key === key)?.value;
}

/** Returns a member's value when it is a string. */
export function stringMemberOf(node: JsonNode, key: string): string | undefined {
  const value = memberOf(node, key);
  return value?.kind === "scalar" && typeof value.value === "string" ? value.value : undefined;
}

/**
 * Returns what Go's parser fills a field from when the object went through a map before, as libcni
 * does with every plugin: keys match without regard to case; of keys that differ in case only, the
 * last one in the order of bytes wins, of equal keys the last one; `null` leaves the field alone.
 *
 * @param name The field's name, for example `type`.
 */
export function fieldOf(node: JsonNode, name: string): JsonNode | undefined {
  if (node.kind !== "object") return undefined;
  let found: JsonMember | undefined;
  for (const member of node.members) {
    if (foldedKey(member.key) !== foldedKey(name)) continue;
    if (member.value.kind === "scalar" && member.value.value === null) continue;
    if (found === undefined || member.key >= found.key) found = member;
  }
  return found?.value;
}

/** Returns a field's value, as {@linkcode fieldOf} finds it, when it is a string. */
export function stringFieldOf(node: JsonNode, name: string): string | undefined {
  const value = fieldOf(node, name);
  return value?.kind === "scalar" && typeof value.value === "string" ? value.value : undefined;
}

/** Go compares keys by simple folding: the long s and the Kelvin sign are letters, too. */
export function foldedKey(key: string): string {
  return key.replaceAll("\u017f", "s").replaceAll("\u212a", "k").toLowerCase();
}

/** Tells whether two texts say the same: order of keys and white space do not count. */
export function isSameJson(one: JsonText, other: JsonText): boolean {
  return canonicalJson(one.text, one.root) === canonicalJson(other.text, other.root);
}

/** Returns what a node says, as `JSON.parse` would; of doubled keys the last one counts. */
export function valueOf(node: JsonNode): unknown {
  if (node.kind === "scalar") return node.value;
  if (node.kind === "array") return node.items.map(valueOf);
  return Object.fromEntries(node.members.map(({ key, value }) => [key, valueOf(value)]));
}

/**
 * Returns a form that is equal for equal values: keys sorted, no whitespace, numbers as written.
 *
 * @param text The byte string that the node was parsed from.
 */
export function canonicalJson(text: string, node: JsonNode): string {
  switch (node.kind) {
    case "array":
      return `[${node.items.map((item) => canonicalJson(text, item)).join(",")}]`;
    case "object": {
      const last = new Map(node.members.map((m) => [m.key, m.value]));
      const parts = [...last.keys()].sort().map((key) =>
        `${JSON.stringify(key)}:${canonicalJson(text, last.get(key)!)}`
      );
      return `{${parts.join(",")}}`;
    }
    case "scalar":
      return typeof node.value === "string"
        ? JSON.stringify(node.value)
        : text.slice(node.start, node.end);
  }
}
