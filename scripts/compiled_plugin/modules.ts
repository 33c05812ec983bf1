/** Runs a bundle that was turned into packs of modules (`scripts/packs.ts`). */

/** What a module exports, by name. */
export type Exports = Readonly<Record<string, unknown>>;

/** A module as a function: evaluates it and returns what it exports. */
export type Module = (
  require: (place: string) => Exports,
  load: (place: string) => Promise<Exports>,
) => Exports;

/** A script's value: its modules by name. */
export type Pack = Readonly<Record<string, Module>>;

/** Place of the module that starts the plugin: its pack, and its name there. */
export const ENTRY = "./main.js#main.js";

/**
 * Evaluates the entry module.
 *
 * @param read Returns the value of a pack's script; called once for each pack, when it is needed.
 */
export function startModules(read: (pack: string) => Pack): void {
  const packs = new Map<string, Pack>();
  const evaluated = new Map<string, Exports>();
  const require = (place: string): Exports => {
    let exports = evaluated.get(place);
    if (exports === undefined) {
      const [name, module] = place.split("#") as [string, string];
      let pack = packs.get(name);
      if (pack === undefined) packs.set(name, pack = read(name));
      exports = pack[module]!(require, load);
      evaluated.set(place, exports);
    }
    return exports;
  };
  // As with import(), what a module throws becomes a rejection.
  const load = (place: string) => new Promise<Exports>((resolve) => resolve(require(place)));
  require(ENTRY);
}
