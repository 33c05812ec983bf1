/** Runs scripts of tests whose process is the first of a PID namespace, as a node's first one is. */
import { equal } from "node:assert/strict";
import { fileURLToPath } from "node:url";

/**
 * Runs a script to its end, which must be a good one.
 *
 * @param script URL of the script.
 * @returns What it printed.
 */
export async function runAsFirstProcess(script: URL): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("unshare", {
    args: ["--pid", "--fork", "--kill-child", "--mount-proc", Deno.execPath()]
      .concat(["run", "--allow-all", "--no-check", fileURLToPath(script)]),
  }).output();
  const [told, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  equal(code, 0, errors);
  return told!;
}
