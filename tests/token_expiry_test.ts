import assert from "node:assert/strict";
import { isOverdue, tokenTimes } from "../src/kubernetes/token_expiry.ts";

function token(claims: string | Uint8Array): string {
  const part = (content: string | Uint8Array) =>
    (typeof content === "string" ? new TextEncoder().encode(content) : content)
      .toBase64({ alphabet: "base64url", omitPadding: true });
  return `${part('{"alg":"RS256","kid":"k"}')}.${part(claims)}.${part("signature")}`;
}

Deno.test("a token says until when it is good", async (t) => {
  const rows: [string, string, number | undefined][] = [
    [
      "a service account's token",
      token(JSON.stringify({ aud: ["https://kubernetes.default.svc"], exp: 1764213600, nbf: 5 })),
      1764213600_000,
    ],
    ["with a line end", `${token('{"exp":1764213600}')}\n`, 1764213600_000],
    ["a part of a second", token('{"exp":1764213600.5}'), 1764213600_500],
    ["characters of base64url only", token(`{"a":"${"ÿ?~".repeat(9)}","exp":7}`), 7000],
    ["unsigned", token('{"exp":7}').replace(/[^.]*$/, ""), 7000],
    [
      "a token without an end, as secrets hold",
      token('{"iss":"kubernetes/serviceaccount"}'),
      undefined,
    ],
    ["text", token('{"exp":"1764213600"}'), undefined],
    ["null", token('{"exp":null}'), undefined],
    ["zero", token('{"exp":0}'), undefined],
    ["negative", token('{"exp":-5}'), undefined],
    ["beyond what a date can hold", token('{"exp":8640000000001}'), undefined],
    ["infinite", token('{"exp":1e999}'), undefined],
    ["inherited", token('{"__proto__":{"exp":7}}'), undefined],
    ["a list", token('[{"exp":7}]'), undefined],
    ["not JSON", token("exp"), undefined],
    ["not UTF-8", token(Uint8Array.of(0xff, 0xfe)), undefined],
    ["two parts", token('{"exp":7}').replace(/\.[^.]*$/, ""), undefined],
    ["five parts, encrypted", `${token('{"exp":7}')}.a.b`, undefined],
    ["not base64url", "a.b+/c.d", undefined],
    ["another kind of token", "abcdef.0123456789abcdef", undefined],
    ["empty", "", undefined],
    ["huge", token(`{"exp":7,"pad":"${"x".repeat(20_000)}"}`), undefined],
  ];
  for (const [name, text, expected] of rows) {
    await t.step(name, () => assert.equal(tokenTimes(text).expires, expected));
  }
});

Deno.test("a token is overdue when kubelet would have renewed it long before", () => {
  const minute = 60_000, issued = Date.UTC(2030, 0, 1);
  /** Whether a token of so many minutes is overdue with so many left. */
  const overdue = (life: number, left: number) => {
    const expires = issued + life * minute;
    return isOverdue({ issued, expires }, expires - left * minute);
  };
  // Kubelet renews tokens of ten minutes when two are left, those of an hour when twelve are.
  assert.deepEqual([10, 5, 2, 1.1, 1, 0, -1].map((left) => overdue(10, left)), [
    ...[false, false, false, false],
    ...[true, true, true],
  ]);
  assert.deepEqual([12, 5.1, 5, 0].map((left) => overdue(60, left)), [false, false, true, true]);
  assert.deepEqual([5.1, 5].map((left) => overdue(365 * 24 * 60, left)), [false, true]);
  // Without its beginning it is taken for one of an hour.
  const expires = issued + 60 * minute;
  const without = { issued: undefined, expires };
  assert.ok(!isOverdue(without, expires - 6 * minute) && isOverdue(without, expires - 4 * minute));
  // A beginning behind the end is nobody's, and makes no alarm before the end.
  assert.ok(!isOverdue({ issued: expires + minute, expires }, expires - minute));
  assert.ok(isOverdue({ issued: expires + minute, expires }, expires));
  assert.ok(!isOverdue({ issued, expires: undefined }, expires));
});
