/** The compiled programs, for tests that play a container runtime or a node. */
import { buildIfStale, root } from "../../scripts/build.ts";
import { withPaths } from "../../src/shim/places.ts";
import { shimBeforeAgent } from "./agent_way.ts";
import { compiledShim } from "./shim.ts";

let isBehindShim = false;
let plugin: Promise<string> | undefined;
let installer: Promise<string> | undefined;

/**
 * Returns the compiled plugin, building it when it is missing or older than its sources.
 *
 * @returns Absolute path of `dist/kuma-cni`; `dist/kuma-cni.lib/` stands beside it.
 */
export function compiledPlugin(): Promise<string> {
  return plugin ??= buildIfStale("kuma-cni").then((path) => isBehindShim ? shimBefore(path) : path);
}

/** From here on the compiled plugin of this test file is a shim that finds no agent. */
export function startBehindShim(): void {
  isBehindShim = true;
}

/** Writes a shim that knows the plugin; it stays, as what is built does. */
async function shimBefore(program: string): Promise<string> {
  const folder = `${root}/.cache/shim`;
  await Deno.mkdir(folder, { recursive: true });
  const paths = { socket: `${folder}/nobody.sock`, program };
  const shim = withPaths(await compiledShim(), paths);
  // Another test file may be starting the same one.
  const temporary = `${folder}/${crypto.randomUUID()}`;
  await Deno.writeFile(temporary, shim, { mode: 0o755 });
  await Deno.rename(temporary, `${folder}/kuma-cni`);
  return `${folder}/kuma-cni`;
}

let program: Promise<string> | undefined;

/**
 * Returns what a runtime starts: the compiled plugin, or a shim that finds an agent in the run that
 * `agent_calls_test.ts` makes of some files.
 */
export function pluginOfRuntime(): Promise<string> {
  return program ??= compiledPlugin().then(shimBeforeAgent);
}

/**
 * Returns the compiled installer, building it when it is missing or older than its sources.
 *
 * @returns Absolute path of `dist/install-cni`.
 */
export function compiledInstaller(): Promise<string> {
  return installer ??= buildIfStale("install-cni");
}
