/** The plugin needs power over the pod's namespaces only, not over the machine. */
import assert from "node:assert/strict";
import { compiledPlugin } from "./support/compiled.ts";
import { runRootless } from "./support/rootless.ts";

Deno.test("the main job is done by a root that exists in a user namespace only", async () => {
  await compiledPlugin(); // Built outside, where the network is.
  const result = await runRootless([
    "--filter",
    "/form 2.9|ADD twice|kuma-validation/",
    "tests/traffic_test.ts",
  ]);
  assert.ok(result.success, result.output);
  assert.match(result.output, /3 passed/);
});
