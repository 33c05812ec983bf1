/**
 * The tables of other tests once more, with the calls going through the shim: to an agent that does
 * them with its own code, and to the plugin, since nobody is at the socket.
 */
import assert from "node:assert/strict";
import { compiledPlugin } from "./support/compiled.ts";
import { WAY_VARIABLE, ways } from "./support/call_way.ts";

/** Tests of what a runtime sees of its plugin. */
const files = [
  "cni_binary_test.ts",
  "add_failures_test.ts",
  "traffic_test.ts",
  "status_test.ts",
];

for (const way of ways) {
  Deno.test(`the plugin's tables hold with ${way}`, async () => {
    await compiledPlugin();
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "--no-check", ...files],
      cwd: import.meta.dirname!,
      env: { [WAY_VARIABLE]: way, NO_COLOR: "1" },
      stdin: "null",
    }).output();
    const text = new TextDecoder().decode(stdout);
    const words = new TextDecoder().decode(stderr);
    assert.ok(success, `${text}\n${words}`);
    const served = words.split("played agent: served").length - 1;
    // Else a shim that never asks anybody would pass, too.
    if (way === "shim and agent") assert.ok(served > 50, `only ${served} calls were served`);
    else assert.equal(served, 0);
  });
}
