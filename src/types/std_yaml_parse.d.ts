/** Declarations of the part of `@std/yaml/parse` that this project uses. */
export interface ParseOptions {
  /** Keep the last of two equal keys instead of throwing. */
  allowDuplicateKeys?: boolean;
  /** The set of tags that is understood. */
  schema?: "core" | "default" | "failsafe" | "json" | "extended";
  /** Called for each recoverable defect. */
  onWarning?(error: Error): void;
}

/** Parses a single YAML document; throws `SyntaxError` on malformed text. */
export declare function parse(content: string, options?: ParseOptions): unknown;

/** Parses all documents of a stream; throws `SyntaxError` on malformed text. */
export declare function parseAll(content: string, options?: ParseOptions): unknown[];
