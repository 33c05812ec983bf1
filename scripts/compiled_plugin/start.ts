/**
 * Entry of the compiled plugin: runs the bundled plugin from bytecode that was made when it was
 * built. Without it V8 parses and compiles every function that a call meets, which is half of what an
 * ADD adds to the time of an empty program.
 *
 * All files are inside of the executable. V8 checks that the bytecode was made by the same version
 * with the same flags for a text of the same length, and compiles the text when it was not.
 */
import { Script } from "node:vm";
import { startModules } from "./modules.ts";

const folder = import.meta.dirname;

startModules((part) => {
  const cachedData = Deno.readFileSync(`${folder}/plugin_${part}.cache`);
  return new Script(Deno.readTextFileSync(`${folder}/plugin_${part}.js`), {
    // A URL, since the plugin's imports of node: modules are resolved against it.
    filename: `file:///kuma-cni/${part}.js`,
    // Empty when the build machine cannot run programs of the target.
    ...(cachedData.length === 0 ? {} : { cachedData }),
  }).runInThisContext();
});
