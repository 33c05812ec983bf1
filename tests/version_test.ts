import { equal } from "node:assert/strict";
import { VERSION } from "../src/version.ts";

Deno.test("the version in the programs is that of deno.json", async () => {
  const settings = JSON.parse(await Deno.readTextFile(new URL("../deno.json", import.meta.url)));
  equal(VERSION, settings.version);
});
