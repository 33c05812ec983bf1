/**
 * The run of tests whose calls go through a shim to an agent, which is played by a process of the
 * tests with the agent's own code.
 */
import { withPaths } from "../../src/shim/places.ts";
import type { AgentFault } from "./agent_faults.ts";
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
  const agent = await startPlayedAgent(socket);
  agent.unref();
  addEventListener("unload", () => agent.kill("SIGKILL"));
  return `${folder}/kuma-cni`;
}

/** A process of its own, since tests also call plugins synchronously. */
export async function startPlayedAgent(
  socket: string,
  fault?: AgentFault,
): Promise<Deno.ChildProcess> {
  const program = new URL("played_agent.ts", import.meta.url).pathname;
  const agent = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", program, socket, ...(fault === undefined ? [] : [fault])],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  for (let i = 0; !isThere(socket); i++) {
    if (i > 2000) throw new Error("The agent has not started");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return agent;
}

function isThere(path: string): boolean {
  try {
    return Deno.lstatSync(path).isSocket === true;
  } catch {
    return false;
  }
}
