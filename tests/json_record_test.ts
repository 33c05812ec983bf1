import { equal } from "node:assert/strict";
import { isRecord, own } from "../src/json/record.ts";

Deno.test("what an object only inherits is not its own", () => {
  const values = { name: "a", none: undefined };
  equal(own(values, "name"), "a");
  equal(own(values, "none"), undefined);
  for (const key of ["constructor", "toString", "__proto__"]) equal(own(values, key), undefined);
  equal(own(JSON.parse('{"__proto__": 1}'), "__proto__"), 1);
});

Deno.test("only objects with keys are records", () => {
  for (const value of [{}, { a: 1 }, Object.create(null)]) equal(isRecord(value), true);
  for (const value of [null, undefined, [], "{}", 1, () => {}]) equal(isRecord(value), false);
});
