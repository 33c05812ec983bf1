/** Declarations of the part of `@std/yaml/stringify` that this project uses. */
export interface StringifyOptions {
  /** Length at which lines are folded; -1: never. */
  lineWidth?: number;
  /** Whether an object that stands in two places is written once, with an anchor. */
  useAnchors?: boolean;
  /** Whether to quote what YAML 1.1 would not take as text. */
  compatMode?: boolean;
}

/** Formats a value as one YAML document, with a final line end. */
export declare function stringify(data: unknown, options?: StringifyOptions): string;
