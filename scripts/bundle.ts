/** Makes bundles repeatable: what depends on the machine is taken out of names and comments. */

/**
 * Gives the modules of a bundle names and comments that depend on nothing but the sources. The
 * bundler derives the names of split modules from the paths of their sources, and those of npm
 * packages from where Deno keeps them and from the registry's host.
 *
 * @param modules Text of each module by file name; split modules are named `<name>-<8 characters>.js`.
 * @returns The same modules under new names, their imports of each other adjusted.
 */
export function withRepeatableNames(
  modules: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> {
  const texts = [...modules].map(([name, text]) => ({ name, text: withoutCachePaths(text) }));
  const split = texts.flatMap(({ name, text }) => {
    const stem = /^(.+)-[0-9A-Z]{8}\.js$/.exec(name)?.[1];
    return stem === undefined ? [] : [{ name, stem, key: withoutNames(text, modules) }];
  });
  split.sort((a, b) => compare(a.stem, b.stem) || compare(a.key, b.key));
  const renamed = new Map(split.map(({ name, stem }, i) => [name, `${stem}-${i}.js`]));
  return new Map(texts.map(({ name, text }) => {
    for (const [old, fresh] of renamed) text = text.replaceAll(`./${old}`, `./${fresh}`);
    return [renamed.get(name) ?? name, text];
  }));
}

/**
 * Replaces the folder of Deno's npm cache where the bundler names a module's source: in a comment,
 * and as the key of a CommonJS module's function.
 */
function withoutCachePaths(text: string): string {
  return text.replace(/^(\/\/ | *")[^\s"]*\/npm\/[^/\s"]+\/(?=[^\s"]+(?:$|"\())/gm, "$1npm:");
}

function withoutNames(text: string, modules: ReadonlyMap<string, string>): string {
  for (const name of modules.keys()) text = text.replaceAll(`./${name}`, "./");
  return text;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
