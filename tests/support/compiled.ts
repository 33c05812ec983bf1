/** The compiled programs, for tests that play a container runtime or a node. */
import { buildIfStale } from "../../scripts/build.ts";
import { shimInFrontOf } from "./call_way.ts";

let plugin: Promise<string> | undefined;
let installer: Promise<string> | undefined;

/**
 * Returns the compiled plugin, building it when it is missing or older than its sources.
 *
 * @returns Absolute path of `dist/kuma-cni`; `dist/kuma-cni.lib/` stands beside it.
 */
export function compiledPlugin(): Promise<string> {
  return plugin ??= buildIfStale("kuma-cni");
}

let program: Promise<string> | undefined;

/**
 * Returns what a runtime starts: the compiled plugin, or the shim in front of it when this run of the
 * tests is one of those that `call_ways_test.ts` makes.
 */
export function pluginOfRuntime(): Promise<string> {
  return program ??= compiledPlugin().then(shimInFrontOf);
}

/**
 * Returns the compiled installer, building it when it is missing or older than its sources.
 *
 * @returns Absolute path of `dist/install-cni`.
 */
export function compiledInstaller(): Promise<string> {
  return installer ??= buildIfStale("install-cni");
}
