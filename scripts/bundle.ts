/**
 * Works on the text of bundles: takes out what depends on the machine, and turns modules into scripts.
 */

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

/**
 * Turns a module of a minified bundle into a script, since V8 makes bytecode to keep of scripts only.
 * The script's value is a function that evaluates the module (`scripts/compiled_plugin/modules.ts`).
 * An import or export that is not in the bundler's form, as
 * `import{a as b}from"./x.js";` or `import"./x.js";`, stays, and makes the script one that V8 refuses.
 *
 * @param module Text of the module.
 */
export function asScript(module: string): string {
  const text = module.trim();
  const imports = /^(?:import(?:\{[^{}]*\}from)?"\.[^"]+";)*/.exec(text)?.[0] ?? "";
  const exports = /export\{([^{}]*)\};?$/.exec(text);
  const body = text.slice(imports.length, exports?.index)
    .replace(/\bimport\(("\.[^"]+")\)/g, "$$load($1)");
  const required = imports.replace(
    /import(?:(\{[^{}]*\})from)?("[^"]+");/g,
    (_, names: string | undefined, from: string) =>
      names === undefined
        ? `$require(${from});`
        : `const${names.replace(/\bas\b/g, ":")}=$require(${from});`,
  );
  const returned = (exports?.[1] ?? "").split(",").filter((item) => item !== "").map((item) => {
    const [local, exported = local] = item.split(" as ");
    return `${exported}:${local}`;
  });
  return `"use strict";(($require,$load)=>{${required}${body}\nreturn{${returned.join(",")}}})`;
}
