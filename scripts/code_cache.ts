/**
 * Makes V8's bytecode of the plugin when it is built. `deno compile` has such a cache too, but keeps
 * it at a predictable name in the temporary folder, where any local user could plant code for root;
 * this one is a part of the executable.
 */
import { asScripts } from "./bundle.ts";
import { ENTRY, PARTS } from "./compiled_plugin/modules.ts";
import { bundleModule, compileModule, run, writeForCompiler } from "./deno_tools.ts";

/** What {@linkcode addCodeCache} needs. */
export interface CodeCacheOptions {
  /** Folder with the modules of the bundled and minified plugin. */
  readonly bundle: string;
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
 * Turns a bundle into a module that runs it from bytecode. The bytecode has the functions that a
 * rehearsal of a node's daily calls has used; V8 compiles the others when they are called. For a
 * target whose programs this machine cannot run there is none, and the program only starts slower.
 *
 * @returns The module that takes the bundle's place.
 * @throws {BuildError} when the rehearsal fails.
 */
export async function addCodeCache(options: CodeCacheOptions): Promise<CachedModule> {
  const { bundle, denort, target, v8Flags, work } = options;
  const folder = `${work}/cached`;
  const module = await bundleModule("scripts/compiled_plugin/start.ts", folder, ["--minify"]);
  const modules = new Map<string, string>();
  for (const { name } of Deno.readDirSync(bundle)) {
    modules.set(`./${name}`, await Deno.readTextFile(`${bundle}/${name}`));
  }
  const scripts = asScripts(modules, ENTRY);
  for (const part of PARTS) {
    await writeForCompiler(`${folder}/plugin_${part}.js`, scripts[part]);
    await writeForCompiler(`${folder}/plugin_${part}.cache`, "");
  }
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
    await run(rehearsal, [folder, work], work, "rehearse the plugin's calls");
    await run(rehearsal, [folder], work, "use the plugin's bytecode in another process");
    await Deno.remove(rehearsal);
    for (const part of PARTS) await Deno.utime(`${folder}/plugin_${part}.cache`, 0, 0);
  }
  return {
    module,
    include: PARTS.flatMap((part) => [`plugin_${part}.js`, `plugin_${part}.cache`]),
  };
}
