/** Reads a values file: one YAML mapping, bounded in size and without tricks. */
// @ts-types="../../src/types/std_yaml_parse.d.ts"
import { parse } from "@std/yaml/parse";
import { isRecord } from "../../src/json/record.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { describeValue, type Tree, ValuesError } from "./tree.ts";

/** Longest file; the longest that makes sense has some kilobytes. */
const maximumBytes = 1024 * 1024;
const maximumDepth = 64;

/**
 * Parses the text of a values file.
 *
 * @param text YAML or JSON; nothing but comments is an empty mapping, as for Helm.
 * @param name The file, as messages name it.
 * @throws {ValuesError} when it is too long, no YAML, no mapping, or has anchors or a key twice.
 */
export function parseValuesFile(text: string, name: string): Tree {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > maximumBytes) {
    throw new ValuesError(
      `${name} has ${bytes} bytes, expected at most ${maximumBytes}; keep only what differs from ` +
        "the defaults",
    );
  }
  const anchor = lineWithAnchor(text);
  if (anchor !== undefined) {
    throw new ValuesError(
      `${name}, line ${anchor} has an anchor or alias, expected the values themselves; write them out`,
    );
  }
  const parsed = parseYaml(text, name);
  if (parsed === null || parsed === undefined) return {};
  if (!isRecord(parsed)) {
    throw new ValuesError(
      `${name} is ${describeValue(parsed)}, expected a mapping of keys to values`,
    );
  }
  const problem = oddPart(parsed, new Set(), [], 0);
  if (problem !== undefined) throw new ValuesError(`${name}: ${problem}`);
  return parsed;
}

function parseYaml(text: string, name: string): unknown {
  try {
    return parse(text, { schema: "core", allowDuplicateKeys: false });
  } catch (error) {
    const reason = messageOf(error).split("\n")[0]!;
    throw new ValuesError(`${name} is not a YAML document: ${reason.replace(/:$/, "")}`);
  }
}

/**
 * Finds an anchor or alias by its place: where a value begins, outside of quotes, comments and block
 * texts. With aliases a short file can mean millions of values.
 */
function lineWithAnchor(text: string): number | undefined {
  let blockIndent: number | undefined;
  for (const [index, line] of text.split("\n").entries()) {
    const indent = line.search(/\S/);
    if (indent < 0 || (blockIndent !== undefined && indent > blockIndent)) continue;
    blockIndent = undefined;
    const bare = line.replace(/"(?:\\.|[^"\\])*"|'(?:''|[^'])*'/g, "''").replace(/(^|\s)#.*/, "");
    if (/(?:^\s*|[-:?]\s+|[[{,]\s*)[&*][^\s,[\]{}]/.test(bare)) return index + 1;
    if (/(?:^|[-:]\s+)[|>][-+0-9]*\s*$/.test(bare)) blockIndent = indent;
  }
  return undefined;
}

/** Finds what a mapping of values has no use for; an alias shows as the same object in two places. */
function oddPart(
  value: unknown,
  seen: Set<unknown>,
  path: readonly string[],
  depth: number,
): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const at = path.length === 0 ? "the file" : path.join(".");
  if (seen.has(value)) {
    return `${at} is an alias of an anchor, expected the values themselves; write them out`;
  }
  if (depth > maximumDepth) return `${at} is nested more than ${maximumDepth} deep`;
  if (value instanceof Date) return `${at} is a date, expected text; quote it`;
  seen.add(value);
  for (const [key, below] of Object.entries(value)) {
    const problem = oddPart(below, seen, [...path, key], depth + 1);
    if (problem !== undefined) return problem;
  }
  return undefined;
}
