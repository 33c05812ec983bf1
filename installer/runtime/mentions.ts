/**
 * Where a text names the plugin, or a file of ours. A name can stand in any depth: in a list, in a
 * copy of one in Multus' `delegates`, in a list inside of a plugin, in text that is JSON itself. Pure.
 */
import { pluginType } from "../conflist/conflist.ts";
import { byteStringOf, type JsonNode, parseJson } from "../conflist/json_edit.ts";

/** Levels of texts within texts. */
const nestingLimit = 4;

/**
 * Returns where a text names the plugin as the one to call, for example `delegates[0].plugins[1]`.
 *
 * @param text Byte string of a configuration.
 * @returns The place, or `undefined`; of a text that is no JSON a place that says so.
 */
export function mentionOf(text: string): string | undefined {
  return placeIn(text, nestingLimit, (node) =>
    node.kind === "object" &&
    node.members.some(({ key, value }) =>
      key.toLowerCase() === "type" && value.kind === "scalar" && value.value === pluginType
    ));
}

/**
 * Returns where a text names a file, by its path or its name alone, for example `clusterNetwork`.
 *
 * @param text Byte string of a configuration.
 * @param fileName Name of the file.
 */
export function referenceTo(text: string, fileName: string): string | undefined {
  if (!text.includes(fileName)) return undefined;
  return placeIn(
    text,
    nestingLimit,
    (node) =>
      node.kind === "scalar" && typeof node.value === "string" &&
      (node.value === fileName || node.value.endsWith(`/${fileName}`)),
  );
}

function placeIn(
  text: string,
  levels: number,
  isIt: (node: JsonNode) => boolean,
): string | undefined {
  let root: JsonNode;
  try {
    root = parseJson(text);
  } catch {
    return text.includes(`"${pluginType}"`) ? "its text, which is not JSON" : undefined;
  }
  const walk = (node: JsonNode, place: string): string | undefined => {
    if (isIt(node)) return place === "" ? "the top level" : place;
    if (node.kind === "array") {
      return first(node.items.map((item, i) => () => walk(item, `${place}[${i}]`)));
    }
    if (node.kind === "object") {
      return first(
        node.members.map(({ key, value }) => () =>
          walk(value, place === "" ? key : `${place}.${key}`)
        ),
      );
    }
    const inner = typeof node.value === "string" && levels > 0 ? jsonIn(node.value) : undefined;
    return inner && placeIn(inner, levels - 1, isIt) && place;
  };
  return walk(root, "");
}

/** The JSON that a text is, as it stands or in base64, in which Go writes bytes. */
function jsonIn(text: string): string | undefined {
  if (/^\s*[{[]/.test(text)) return byteStringOf(text);
  // Both begin with a brace or a bracket, possibly after blanks: so does their base64.
  if (!/^[A-Za-z0-9+/\s]{8,}={0,2}$/.test(text)) return undefined;
  try {
    const decoded = atob(text);
    return /^\s*[{[]/.test(decoded) ? decoded : undefined;
  } catch {
    return undefined;
  }
}

function first<T>(attempts: readonly (() => T | undefined)[]): T | undefined {
  for (const attempt of attempts) {
    const result = attempt();
    if (result !== undefined) return result;
  }
  return undefined;
}
