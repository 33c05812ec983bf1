import { equal } from "node:assert/strict";
import { quote } from "../src/text/quote.ts";

Deno.test("a quoted text is one line that commands no terminal and keeps its direction", () => {
  equal(quote('a "b" \\'), '"a \\"b\\" \\\\"');
  equal(quote("a\nb\u001b[2J"), '"a\\nb\\u001b[2J"');
  // DEL, C1 controls, right-to-left override, zero width space, line and paragraph separators.
  equal(quote("\u007f\u009b"), '"\\u{7f}\\u{9b}"');
  equal(quote("\u202e\u200b"), '"\\u{202e}\\u{200b}"');
  equal(quote("\u2028\u2029"), '"\\u{2028}\\u{2029}"');
});

Deno.test("a quoted text is cut with a mark", () => {
  equal(quote("x".repeat(80)), `"${"x".repeat(80)}"`);
  equal(quote("x".repeat(81)), `"${"x".repeat(80)}…"`);
  equal(quote("abc", 2), '"ab…"');
});
