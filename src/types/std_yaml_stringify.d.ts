/** Declarations of the part of `@std/yaml/stringify` that this project uses. */
export interface StringifyOptions {
  /** Blanks per level. */
  indent?: number;
  /** Longest line before folding; -1 never folds. */
  lineWidth?: number;
  /** Leave out values that YAML cannot express instead of throwing. */
  skipInvalid?: boolean;
  /** Order of keys. */
  sortKeys?: boolean;
}

/** Serialises a value as one YAML document. */
export declare function stringify(data: unknown, options?: StringifyOptions): string;
