/**
 * Has V8 compile scripts and writes down what it makes of them, each beside its script. Runs in the
 * same denort with the same flags as the plugin: with `--no-lazy` among them every function is
 * compiled, and nothing needs to be called.
 *
 * Arguments: `make` or `check`, then the scripts' paths. With `check` the exit code tells whether V8
 * accepts the bytecode that is there.
 */
import { readScript } from "./script.ts";

const [mode, ...paths] = Deno.args;
for (const path of paths) {
  const file = `${path}.cache`;
  if (mode === "make") Deno.writeFileSync(file, readScript(path).createCachedData());
  else if (readScript(path, Deno.readFileSync(file)).cachedDataRejected) {
    console.error(`V8 refuses the bytecode of "${path}" that it has made itself`);
    Deno.exitCode = 1;
  }
}
