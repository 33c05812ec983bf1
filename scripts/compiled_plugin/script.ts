/** One of the plugin's scripts and its bytecode, as files beside the program that reads them. */
import { Script } from "node:vm";

/**
 * Path of a script's file; that of its bytecode ends with `.cache` besides.
 *
 * @param folder Where the files are.
 * @param name Of the pack, as modules name it: `./main.js`.
 */
export function scriptPath(folder: string, name: string): string {
  return `${folder}/plugin_${name.slice(2)}`;
}

/**
 * Reads a script.
 *
 * @param path Of its file.
 * @param cachedData Bytecode; without it, or when V8 refuses it, the text is compiled.
 */
export function readScript(path: string, cachedData?: Uint8Array): Script {
  return new Script(Deno.readTextFileSync(path), {
    // A URL, since the plugin's imports of node: modules are resolved against it.
    filename: `file:///kuma-cni/${path.slice(path.lastIndexOf("/") + 1)}`,
    ...(cachedData === undefined ? {} : { cachedData }),
  });
}
