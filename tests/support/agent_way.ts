/**
 * The run of tests whose calls go through a shim to an agent, which is played by a process of the
 * tests with the agent's own code.
 */
import { withPaths } from "../../src/shim/places.ts";
import { compiledShim } from "./shim.ts";

/** Variable that has the calls of a whole test process done by an agent. */
export const AGENT_VARIABLE = "KUMA_TEST_CALLS_BY_AGENT";

/** Returns the plugin itself, or in such a run a shim in front of it. */
export async function shimBeforeAgent(plugin: string): Promise<string> {
  if (!Deno.env.has(AGENT_VARIABLE)) return plugin;
  const folder = Deno.makeTempDirSync({ prefix: "kuma-calls-" });
  addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  Deno.chmodSync(folder, 0o700);
  const socket = `${folder}/call.sock`;
  const shim = withPaths(await compiledShim(), { socket, program: plugin });
  Deno.writeFileSync(`${folder}/kuma-cni`, shim, { mode: 0o755 });
  startAgent(socket);
  for (let i = 0; !isThere(socket); i++) {
    if (i > 1000) throw new Error("The agent has not started");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return `${folder}/kuma-cni`;
}

/** A process of its own, since tests also call plugins synchronously. */
function startAgent(socket: string): void {
  const program = new URL("played_agent.ts", import.meta.url).pathname;
  const agent = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", program, socket],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  agent.unref();
  addEventListener("unload", () => agent.kill("SIGKILL"));
}

function isThere(path: string): boolean {
  try {
    return Deno.lstatSync(path).isSocket === true;
  } catch {
    return false;
  }
}
