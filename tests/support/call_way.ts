/**
 * The way that calls of a run of tests go: to the plugin, or to the shim in front of it, with an agent
 * or with nobody at its socket.
 */
import { withPaths } from "../../src/shim/places.ts";
import { compiledShim } from "./shim.ts";

/** Variable that names the way for a whole test process; without it the plugin is called. */
export const WAY_VARIABLE = "KUMA_TEST_CALL_WAY";

/** Ways with the shim. */
export const ways = ["shim and agent", "shim alone"] as const;

/** Returns what is to be called: the plugin itself, or a shim in front of it. */
export async function shimInFrontOf(plugin: string): Promise<string> {
  const way = Deno.env.get(WAY_VARIABLE);
  if (way === undefined) return plugin;
  const folder = Deno.makeTempDirSync({ prefix: "kuma-way-" });
  Deno.chmodSync(folder, 0o700);
  const socket = `${folder}/call.sock`;
  const shim = withPaths(await compiledShim(), { socket, program: plugin });
  Deno.writeFileSync(`${folder}/kuma-cni`, shim, { mode: 0o755 });
  if (way === "shim and agent") startAgent(socket);
  else if (way !== "shim alone") throw new Error(`Unknown way "${way}"`);
  addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  for (let i = 0; way === "shim and agent" && !isThere(socket); i++) {
    if (i > 1000) throw new Error("The agent has not started");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return `${folder}/kuma-cni`;
}

/** A process of its own, since tests also call plugins synchronously. It ends with this one's stdin. */
function startAgent(socket: string): void {
  const program = new URL("played_agent.ts", import.meta.url).pathname;
  const agent = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", program, socket],
    stdin: "piped",
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
