/**
 * Puts the modules of a bundle into packs: each is a script of its own, whose bytecode is read as a
 * whole. A call is to pay for no module that it does not need, and for few files. The bundler makes a
 * module of each piece of code that some of its entries share, so that every `import()` in a rare path
 * would cut what all calls need into smaller files: each costs a tenth of a millisecond.
 */
import { asScript } from "./bundle.ts";
import { ENTRY } from "./compiled_plugin/modules.ts";

/** A bundle is not as it is expected to be. */
export class PackError extends Error {
  override readonly name = "PackError";
}

const REFERENCE = /(\$require|\$load)\("\.\/([^"]+)"\)/g;
const [MAIN] = ENTRY.slice(2).split("#") as [string];

/**
 * Makes the packs: one of what every call needs, one for each of the modules that many calls load,
 * one of what those share, and for the rest one for each group of modules that belong together.
 *
 * @param modules Text of each module of the minified bundle by file name.
 * @param often Begin of the names of the modules that many calls load with `import()`.
 * @returns Text of each script by file name; its value is an object with the modules by name.
 * @throws {PackError} when a module of `often` is not there.
 */
export function packed(
  modules: ReadonlyMap<string, string>,
  often: readonly string[],
): ReadonlyMap<string, string> {
  const scripts = new Map([...modules].map(([name, text]) => [name, functionOf(text)]));
  const loaded = new Set([...scripts.values()].flatMap((script) => references(script, "$load")));
  const frequent = often.map((stem) => {
    const found = [...loaded].filter((name) => name.startsWith(`${stem}-`));
    if (found.length === 1) return found[0]!;
    throw new PackError(
      `Expected one module "${stem}" that is loaded later, found ${found.length}`,
    );
  });
  const closures = new Map(
    [MAIN, ...loaded].map((root) => [root, closureOf(root, scripts)]),
  );
  const reachedFrom = (name: string, roots: Iterable<string>) =>
    [...roots].filter((root) => closures.get(root)!.has(name)).sort();
  const packs = new Map<string, string[]>();
  const packOf = new Map<string, string>();
  for (const name of [...scripts.keys()].sort()) {
    const roots = [[MAIN], frequent, loaded].map((some) => reachedFrom(name, some))
      .find((some) => some.length > 0);
    // The bundler leaves nothing that is never asked for.
    if (roots === undefined) throw new PackError(`Nothing asks for module "${name}"`);
    const pack = `${roots.map((root) => root.replace(/\.js$/, "")).join("+")}.js`;
    packOf.set(name, pack);
    packs.set(pack, [...packs.get(pack) ?? [], name]);
  }
  const placed = (script: string) =>
    script.replace(REFERENCE, (_, verb, name) => `${verb}("./${packOf.get(name)}#${name}")`);
  return new Map([...packs].map(([pack, names]) => {
    const members = names.map((name) => `${JSON.stringify(name)}:${placed(scripts.get(name)!)}`);
    return [pack, `"use strict";({${members.join(",")}})`];
  }));
}

/** A module as a function, without the directive that its pack has once. */
function functionOf(text: string): string {
  return asScript(text).replace(/^"use strict";/, "");
}

function references(script: string, verb: "$require" | "$load"): string[] {
  return [...script.matchAll(REFERENCE)].flatMap(([, found, name]) =>
    found === verb ? [name!] : []
  );
}

/** A module and all that it cannot be evaluated without. */
function closureOf(root: string, scripts: ReadonlyMap<string, string>): Set<string> {
  const reached = new Set([root]);
  // A set gives what is added while it is gone through, too.
  for (const name of reached) {
    for (const next of references(scripts.get(name) ?? "", "$require")) reached.add(next);
  }
  return reached;
}
