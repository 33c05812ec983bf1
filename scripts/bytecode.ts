/**
 * Makes V8's bytecode of the plugin when it is built. `deno compile` has such a cache too, but keeps
 * it at a predictable name in the temporary folder, where any local user could plant code for root;
 * this one is a part of the executable.
 */
import { packed } from "./packs.ts";
import { scriptPath } from "./compiled_plugin/script.ts";
import { bundleModule, compileModule, run, writeForCompiler } from "./deno_tools.ts";

/** What {@linkcode addBytecode} needs. */
export interface BytecodeOptions {
  /** Folder with the modules of the bundled and minified plugin. */
  readonly bundle: string;
  /** Begin of the names of the modules that many calls load later. */
  readonly often: readonly string[];
  /** Path of denort. */
  readonly denort: string;
  readonly target: string;
  /** V8's flags of the plugin: bytecode is good for the same flags only. */
  readonly v8Flags: readonly string[];
  /** A folder that nobody else can write to. */
  readonly work: string;
}

/** A module to be compiled with files beside it. */
export interface BytecodeModule {
  /** Path of the entry module. */
  readonly module: string;
  /** Names of the files beside it that it reads. */
  readonly include: readonly string[];
}

/**
 * Turns a bundle into a module that runs it from bytecode. For a target whose programs this machine
 * cannot run there is none, and the program only starts slower.
 *
 * @returns The module that takes the bundle's place.
 * @throws {BuildError} when V8 does not compile the scripts, or refuses its own bytecode of them.
 */
export async function addBytecode(options: BytecodeOptions): Promise<BytecodeModule> {
  const { bundle, often, denort, target, v8Flags, work } = options;
  const folder = `${work}/scripts`;
  const module = await bundleModule("scripts/compiled_plugin/start.ts", folder, ["--minify"]);
  const paths: string[] = [];
  const modules = new Map(
    [...Deno.readDirSync(bundle)].map(({ name }) => [
      name,
      Deno.readTextFileSync(`${bundle}/${name}`),
    ]),
  );
  for (const [name, script] of packed(modules, often)) {
    const path = scriptPath(folder, `./${name}`);
    await writeForCompiler(path, script);
    await writeForCompiler(`${path}.cache`, "");
    paths.push(path);
  }
  if (target === `${Deno.build.arch}-unknown-linux-gnu`) {
    const maker = `${work}/make_bytecode`;
    await compileModule({
      module: await bundleModule("scripts/compiled_plugin/make_bytecode.ts", `${work}/maker`),
      output: maker,
      denort,
      target,
      permissions: ["--allow-read", "--allow-write"],
      v8Flags,
    });
    // Names, not paths: V8 keeps the whole string of which a script's name was cut, and the folder has
    // another name in each build.
    const names = paths.map((path) => path.slice(folder.length + 1));
    await run(maker, ["make", ...names], folder, "compile the plugin's scripts to bytecode");
    await run(maker, ["check", ...names], folder, "use the plugin's bytecode in another process");
    await Deno.remove(maker);
    // deno compile stores the time of each file, which would make each build another one.
    for (const path of paths) await Deno.utime(`${path}.cache`, 0, 0);
  }
  const names = paths.map((path) => path.slice(folder.length + 1)).sort();
  return { module, include: names.flatMap((name) => [name, `${name}.cache`]) };
}
