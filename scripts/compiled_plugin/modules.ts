/** Runs a bundle that was turned into scripts. */

/** What a module exports, by name. */
export type Exports = Readonly<Record<string, unknown>>;

/** A script's value: evaluates its module and returns what that exports. */
export type Module = (
  require: (name: string) => Exports,
  load: (name: string) => Promise<Exports>,
) => Exports;

/** Name of the module that starts the plugin. */
export const ENTRY = "./main.js";

/**
 * Evaluates the entry module.
 *
 * @param read Returns the value of a module's script; called once for each module, when it is needed.
 */
export function startModules(read: (name: string) => Module): void {
  const evaluated = new Map<string, Exports>();
  const require = (name: string): Exports => {
    let exports = evaluated.get(name);
    if (exports === undefined) {
      exports = read(name)(require, load);
      evaluated.set(name, exports);
    }
    return exports;
  };
  // As with import(), what a module throws becomes a rejection.
  const load = (name: string) => new Promise<Exports>((resolve) => resolve(require(name)));
  require(ENTRY);
}
