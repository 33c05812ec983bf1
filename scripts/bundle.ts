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

/** Two scripts; see `scripts/compiled_plugin/modules.ts`. */
export interface Scripts {
  /** The entry and all modules that it imports at once. */
  readonly start: string;
  /** All other modules. */
  readonly later: string;
}

/**
 * Turns the modules of a minified bundle into scripts, since V8 makes bytecode to keep of scripts
 * only. The value of each script is an object with a function for each of its modules. An import or
 * export that is not in the bundler's form stays, and makes the script one that V8 refuses.
 *
 * @param modules Text of each module by the name that the others import it by.
 * @param entry Name of the entry module.
 */
export function asScripts(modules: ReadonlyMap<string, string>, entry: string): Scripts {
  const started = new Set([entry]);
  // A set that grows while it is walked is walked to its new end.
  for (const name of started) {
    for (const [, imported = ""] of (modules.get(name) ?? "").matchAll(staticImport)) {
      started.add(imported);
    }
  }
  const script = (names: readonly string[]) =>
    `"use strict";({${
      names.map((name) => `${JSON.stringify(name)}:${asFunction(name, modules)}`).join(",")
    }})`;
  const names = [...modules.keys()].sort();
  return {
    start: script(names.filter((name) => started.has(name))),
    later: script(names.filter((name) => !started.has(name))),
  };
}

/** As the bundler writes them, minified: `import{a as b}from"./x.js";`, `import"./x.js";`. */
const staticImport = /(?<=^|;)import(?:\{[^{}]*\}from)?"(\.[^"]+)";/g;

function asFunction(name: string, modules: ReadonlyMap<string, string>): string {
  const text = (modules.get(name) ?? "").trim();
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
  return `($require,$load)=>{${required}${body}\nreturn{${returned.join(",")}}}`;
}
