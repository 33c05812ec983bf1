/**
 * Typed reading of a mapping that a pod's author wrote: keys in any case, each read once, numbers
 * and booleans also as text, and a note of where each value came from.
 */
import { quote } from "../text/quote.ts";
import { ConfigError } from "./config_error.ts";
import { checkLength, parseBoolean, parseDecimal, parsePort, splitList } from "./scalars.ts";

/** What reading leaves behind besides the values. */
export interface Diagnostics {
  /** Effective value's key path → where it came from. */
  readonly origins: Map<string, string>;
  readonly warnings: string[];
  /** The section `ebpf` of the config annotation, which says nothing about rules. */
  ebpf?: unknown;
}

/** One mapping of the document. */
export class Section {
  readonly #values = new Map<string, { key: string; value: unknown }>();

  /**
   * @param value The mapping, or nothing for an empty one.
   * @param path Key path with a trailing dot, or `""` at the top.
   * @param source Name of the document for messages and origins.
   * @throws {ConfigError} when the value is no mapping or two keys differ only in case.
   */
  constructor(
    value: unknown,
    private readonly path: string,
    private readonly source: string,
    readonly diagnostics: Diagnostics,
  ) {
    if (value === undefined || value === null) return;
    if (typeof value !== "object" || Array.isArray(value)) {
      throw new ConfigError(`${this.name("")} is ${describe(value)} where a mapping is expected`);
    }
    for (const [key, entry] of Object.entries(value)) {
      const folded = key.toLowerCase();
      if (this.#values.has(folded)) {
        throw new ConfigError(
          `${this.name("")} has the key ${quote(key)} twice, in different case`,
        );
      }
      this.#values.set(folded, { key, value: entry });
    }
  }

  /** Name of a setting of this mapping in messages. */
  name(key: string): string {
    const path = (this.path + key).replace(/\.$/, "");
    return path === "" ? this.source : `${this.source}: ${path.slice(0, 120)}`;
  }

  /** Takes a value; `undefined` when absent or null. */
  take(key: string): unknown {
    const entry = this.#values.get(key.toLowerCase());
    this.#values.delete(key.toLowerCase());
    const present = entry !== undefined && entry.value !== null;
    this.diagnostics.origins.set(this.path + key, present ? this.name(key) : "default");
    return present ? entry.value : undefined;
  }

  /** Takes a mapping; an empty one when absent. */
  section(key: string): Section {
    const value = this.take(key);
    this.diagnostics.origins.delete(this.path + key);
    return new Section(value, `${this.path}${key}.`, this.source, this.diagnostics);
  }

  /** Takes a boolean. */
  boolean(key: string, fallback: boolean): boolean {
    const value = this.take(key);
    if (value === undefined) return fallback;
    const parsed = typeof value === "boolean"
      ? value
      : typeof value === "string"
      ? parseBoolean(value)
      : undefined;
    if (parsed !== undefined) return parsed;
    throw this.#wrong(key, value, `"true" or "false"`);
  }

  /** Takes a text; numbers are written out. */
  text(key: string): string | undefined {
    const value = this.take(key);
    if (value === undefined) return undefined;
    if (typeof value === "string") return value.trim();
    if (typeof value === "number" && Number.isSafeInteger(value)) return String(value);
    throw this.#wrong(key, value, "a text");
  }

  /** Takes a whole number. */
  number(key: string, fallback: number, min: number, max: number): number {
    const value = this.take(key);
    if (value === undefined) return fallback;
    const number = typeof value === "string"
      ? parseDecimal(value.trim(), min, max)
      : typeof value === "number" && Number.isInteger(value) && value >= min && value <= max
      ? value
      : undefined;
    if (number !== undefined) return number;
    throw this.#wrong(key, value, `a whole number ${min}-${max}`);
  }

  /** Takes a list of texts; a single text or number is a list of one. */
  texts(key: string): string[] {
    const value = this.take(key);
    if (value === undefined) return [];
    const items: unknown[] = Array.isArray(value) ? value : [value];
    checkLength(items.length, this.name(key));
    return items.filter((item) => item !== null).map((item) => {
      if (typeof item === "string") return item;
      if (typeof item === "number" && Number.isSafeInteger(item)) return String(item);
      throw this.#wrong(key, item, "a list of texts");
    });
  }

  /** Takes a list of ports: numbers, texts, texts with commas, or a single one of them. */
  ports(key: string): number[] {
    const name = this.name(key);
    const ports = this.texts(key).flatMap((text) => splitList(text, ",", name))
      .map((text) => parsePort(text, name));
    const distinct = [...new Set(ports)];
    checkLength(distinct.length, name);
    return distinct;
  }

  /** Warns of the keys that nobody took. */
  finish(): void {
    const unknown = [...this.#values.values()].map(({ key }) => quote(key));
    if (unknown.length === 0) return;
    const more = unknown.length > 5 ? ` and ${unknown.length - 5} more` : "";
    this.diagnostics.warnings.push(
      `${this.name("")} has unknown keys, which have no effect: ${unknown.slice(0, 5)}${more}`,
    );
  }

  #wrong(key: string, value: unknown, expected: string): ConfigError {
    return new ConfigError(`${this.name(key)} is ${describe(value)} where ${expected} is expected`);
  }
}

/** Describes a value for a message without walking into it: it can be huge or contain itself. */
function describe(value: unknown): string {
  if (typeof value === "string") return quote(value);
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "a mapping";
  return String(value);
}
