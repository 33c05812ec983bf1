/**
 * The tables of other tests once more, with the calls going through a shim to an agent that does them
 * with its own code (`behind_shim_test.ts` has those without an agent).
 */
import assert from "node:assert/strict";
import { AGENT_VARIABLE } from "./support/agent_way.ts";
import { compiledPlugin } from "./support/compiled.ts";

/** Tests of what a runtime sees of its plugin. */
const files = [
  "cni_binary_test.ts",
  "plugin_output_test.ts",
  "add_failures_test.ts",
  "traffic_test.ts",
  "status_test.ts",
];

Deno.test("the plugin's tables hold when an agent does the calls", async () => {
  await compiledPlugin();
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", ...files],
    cwd: import.meta.dirname!,
    env: { [AGENT_VARIABLE]: "1", NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const text = new TextDecoder().decode(stdout);
  const words = new TextDecoder().decode(stderr);
  assert.ok(success, `${text}\n${words}`);
  // The runner shows what a test's processes say on either of the two.
  const served = `${text}${words}`.split("played agent: served").length - 1;
  // Else an agent that is never asked would pass, too.
  assert.ok(served > 50, `only ${served} calls were served`);
});
