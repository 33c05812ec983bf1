/**
 * Entry of the compiled plugin: runs the bundled plugin from bytecode that was made when it was
 * built. Without it V8 parses and compiles every function that a call meets, which is half of what an
 * ADD adds to the time of an empty program.
 *
 * All files are inside of the executable. V8 checks that the bytecode was made by the same version
 * with the same flags for a text of the same length, and compiles the text when it was not.
 */
import { noteBytecode } from "../../src/plugin/bytecode.ts";
import { type Pack, startModules } from "./modules.ts";
import { readScript, scriptPath } from "./script.ts";

const folder = import.meta.dirname!;

startModules((name): Pack => {
  const path = scriptPath(folder, name);
  const bytecode = Deno.readFileSync(`${path}.cache`);
  // Empty when the build machine cannot run programs of the target.
  const missing = bytecode.length === 0;
  const script = readScript(path, missing ? undefined : bytecode);
  noteBytecode(missing ? "missing" : script.cachedDataRejected ? "refused" : "used");
  return script.runInThisContext();
});
