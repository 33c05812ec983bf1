/** Whether this process runs from the bytecode that was made when the plugin was built. */

/**
 * - `used`: V8 took the bytecode of everything that was loaded.
 * - `refused`: V8 did not take some of it, and compiles while the call waits.
 * - `missing`: the program was built without bytecode, for another machine's architecture.
 */
export type BytecodeState = typeof BYTECODE_STATES[number];

/** From best to worst. */
export const BYTECODE_STATES = ["used", "missing", "refused"] as const;

/** Where the state stands: the program's entry and the plugin are two programs for the bundler. */
const KEY = Symbol.for("kuma-cni.bytecode");
const holder = globalThis as { [KEY]?: BytecodeState };

/** Remembers the state of one more script; the worst of all counts. */
export function noteBytecode(state: BytecodeState): void {
  const before = holder[KEY];
  if (before === undefined || BYTECODE_STATES.indexOf(state) > BYTECODE_STATES.indexOf(before)) {
    holder[KEY] = state;
  }
}

/** Returns the state; `undefined` when the plugin runs from its sources. */
export function bytecodeState(): BytecodeState | undefined {
  return holder[KEY];
}
