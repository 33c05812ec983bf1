/** Runs a bundle that was turned into scripts, for the compiled plugin and for its rehearsal. */

/**
 * The two scripts of the plugin: what every call needs, and what only those need that look a pod up.
 * Two, since the bytecode of a script is read as a whole, and most calls on a node end early.
 */
export const PARTS = ["start", "later"] as const;

/** One of the scripts. */
export type Part = typeof PARTS[number];

/** What a module exports, by name. */
export type Exports = Readonly<Record<string, unknown>>;

/**
 * A script's value: its modules by name. Each is a function that evaluates the module and returns
 * what it exports.
 */
export type Modules = Readonly<
  Record<
    string,
    (require: (name: string) => Exports, load: (name: string) => Promise<Exports>) => Exports
  >
>;

/** Name of the module that starts the plugin. */
export const ENTRY = "./main.js";

/**
 * Evaluates the entry module.
 *
 * @param read Returns a script's value; called once for a part, when it is needed.
 */
export function startModules(read: (part: Part) => Modules): void {
  const start = read("start");
  let later: Modules | undefined;
  const evaluated = new Map<string, Exports>();
  const require = (name: string): Exports => {
    let exports = evaluated.get(name);
    if (exports === undefined) {
      const module = start[name] ?? (later ??= read("later"))[name];
      if (module === undefined) throw new TypeError(`The plugin has no module "${name}"`);
      exports = module(require, load);
      evaluated.set(name, exports);
    }
    return exports;
  };
  // As with import(), what a module throws becomes a rejection.
  const load = (name: string) => new Promise<Exports>((resolve) => resolve(require(name)));
  require(ENTRY);
}
