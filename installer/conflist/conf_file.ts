/** Files that hold network configurations. */

/** One configuration file of the net dir. */
export interface ConfFile {
  readonly name: string;
  /** Byte string of the content; `undefined` when it could not be read, see `problem`. */
  readonly text?: string;
  readonly problem?: string;
}

/** Tells whether runtimes look at a file of this name. */
export function isConfName(name: string): boolean {
  return /\.(conf|conflist|json)$/.test(name);
}
