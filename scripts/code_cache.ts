/**
 * Makes V8's bytecode of the plugin when it is built. `deno compile` has such a cache too, but keeps
 * it at a predictable name in the temporary folder, where any local user could plant code for root;
 * this one is a part of the executable.
 */
import { bundleModule, compileModule, run, writeForCompiler } from "./deno_tools.ts";

/** What {@linkcode addCodeCache} needs. */
export interface CodeCacheOptions {
  /** Path of the bundled plugin, a script. */
  readonly script: string;
  /** Path of denort. */
  readonly denort: string;
  readonly target: string;
  /** V8's flags of the plugin: bytecode is good for the same flags only. */
  readonly v8Flags: readonly string[];
  /** A folder that nobody else can write to. */
  readonly work: string;
}

/** A module to be compiled with files beside it. */
export interface CachedModule {
  /** Path of the entry module. */
  readonly module: string;
  /** Names of the files beside it that it reads. */
  readonly include: readonly string[];
}

/**
 * Turns a script into a module that runs it from bytecode. The bytecode has the functions that a
 * rehearsal of a node's daily calls has used; V8 compiles the others when they are called. For a
 * target whose programs this machine cannot run there is none, and the program only starts slower.
 *
 * @returns The module that takes the script's place.
 * @throws {BuildError} when the rehearsal fails.
 */
export async function addCodeCache(options: CodeCacheOptions): Promise<CachedModule> {
  const { script, denort, target, v8Flags, work } = options;
  const folder = `${work}/cached`;
  const module = await bundleModule("scripts/compiled_plugin/start.ts", folder, ["--minify"]);
  // Modules are strict, scripts are not.
  const plugin = `${folder}/plugin.js`, cache = `${folder}/plugin.cache`;
  await writeForCompiler(plugin, '"use strict";' + await Deno.readTextFile(script));
  await writeForCompiler(cache, "");
  if (target === `${Deno.build.arch}-unknown-linux-gnu`) {
    const rehearsal = `${work}/rehearsal`;
    await compileModule({
      module: await bundleModule("scripts/compiled_plugin/rehearsal.ts", `${work}/rehearsing`),
      output: rehearsal,
      denort,
      target,
      permissions: ["--allow-all"],
      v8Flags,
    });
    await run(rehearsal, [plugin, cache, work], work, "rehearse the plugin's calls");
    await run(rehearsal, [plugin, cache], work, "use the plugin's bytecode in another process");
    await Deno.remove(rehearsal);
    await Deno.utime(cache, 0, 0);
  }
  return { module, include: ["plugin.js", "plugin.cache"] };
}
