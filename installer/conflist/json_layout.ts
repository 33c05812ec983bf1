/**
 * How JSON text is laid out, and how to write a piece of it in the layout of its neighbours. Texts are
 * byte strings (see `json_edit.ts`).
 */
import type { Span } from "../../src/json/span.ts";
import type { JsonNode, JsonObject } from "./json_edit.ts";

/** How a text is laid out. */
export interface JsonLayout {
  /** Line end, or `""` when everything stands on one line. */
  readonly lineEnd: string;
  /** One level of indentation. */
  readonly unit: string;
  /** Whether a space follows `:` (and `,` within a line). */
  readonly spaced: boolean;
}

/**
 * Writes a value in a given layout; scalars and keys keep their spelling.
 *
 * @param text The byte string that the node was parsed from.
 * @param base Indentation of the line on which the value begins.
 */
export function formatJson(
  text: string,
  node: JsonNode,
  layout: JsonLayout,
  base: string,
): string {
  if (node.kind === "scalar") return text.slice(node.start, node.end);
  const [open, close] = node.kind === "object" ? "{}" : "[]";
  const inner = base + layout.unit;
  const colon = layout.spaced ? ": " : ":";
  const parts = node.kind === "object"
    ? node.members.map((m) =>
      text.slice(m.keyStart, m.keyEnd) + colon + formatJson(text, m.value, layout, inner)
    )
    : node.items.map((item) => formatJson(text, item, layout, inner));
  if (parts.length === 0) return `${open}${close}`;
  const isShort = node.kind === "array" && node.items.every((item) => item.kind === "scalar");
  if (layout.lineEnd === "" || isShort) {
    return `${open}${parts.join(layout.spaced ? ", " : ",")}${close}`;
  }
  return `${open}${layout.lineEnd}${inner}${parts.join(`,${layout.lineEnd}${inner}`)}` +
    `${layout.lineEnd}${base}${close}`;
}

/**
 * Tells how an object's text is laid out, for writing a sibling of it.
 *
 * @param text The byte string that the node was parsed from.
 */
export function layoutOf(text: string, node: JsonObject): JsonLayout {
  const first = node.members[0];
  const colon = first === undefined ? ": " : text.slice(first.keyEnd, first.value.start);
  const spaced = /\s$/.test(colon);
  const before = first === undefined ? "" : text.slice(node.start + 1, first.keyStart);
  const lineEnd = lineEndIn(before);
  if (lineEnd === "") return { lineEnd: "", unit: "", spaced };
  const inner = before.slice(before.lastIndexOf("\n") + 1);
  const closing = indentationAt(text, node.end - 1);
  const unit = closing !== undefined && inner.startsWith(closing) && inner.length > closing.length
    ? inner.slice(closing.length)
    : "  ";
  return { lineEnd, unit, spaced };
}

/** Returns the first line end in a text, or `""`. */
export function lineEndIn(text: string): string {
  return /\r?\n/.exec(text)?.[0] ?? "";
}

/** Returns the whitespace between the line's begin and a position, when nothing else stands there. */
export function indentationAt(text: string, at: number): string | undefined {
  const line = text.slice(text.lastIndexOf("\n", at - 1) + 1, at);
  return /^[ \t]*$/.test(line) ? line : undefined;
}

/** Replaces spans of a text; the spans must not overlap. */
export function replaceSpans(
  text: string,
  spans: readonly (Span & { readonly by: string })[],
): string {
  let result = "";
  let at = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    result += text.slice(at, span.start) + span.by;
    at = span.end;
  }
  return result + text.slice(at);
}
