/**
 * What libcni insists on in the keys of a plugin that it reads itself. One wrong value there, and the
 * runtime refuses the whole list: then no pod of the node starts, in the mesh or not. Pure.
 *
 * Facts: libcni 1.3, `types.PluginConf`; Go's `encoding/json`: keys match in any case, each of doubled
 * ones must fit, `null` fits everywhere.
 */
import { foldedKey, JsonError, type JsonNode } from "./json_edit.ts";

/** What a value must be: a scalar, anything of a kind, or that with parts of their own. */
type Shape =
  | "string"
  | "boolean"
  | { readonly fields: Readonly<Record<string, Shape>> }
  | { readonly each: Shape }
  | { readonly items: Shape };

const strings: Shape = { items: "string" };

/** `type` is missing here, since whoever looks for a plugin reads it anyway. */
const plugin: Shape = {
  fields: {
    cniVersion: "string",
    name: "string",
    capabilities: { each: "boolean" },
    ipam: { fields: { type: "string" } },
    dns: { fields: { nameservers: strings, domain: "string", search: strings, options: strings } },
    prevResult: { fields: {} },
    "cni.dev/valid-attachments": { items: { fields: { containerID: "string", ifname: "string" } } },
  },
};

/**
 * Checks the keys of a plugin that libcni reads itself.
 *
 * @param node The plugin.
 * @param path Where it stands, such as `plugins[1]`; `""`: it is the whole text.
 * @throws {JsonError} naming the key, what libcni expects there and what stands there.
 */
export function checkPluginFields(node: JsonNode, path = ""): void {
  checkShape(node, plugin, path);
}

/**
 * Checks that all numbers are such as Go can hold: libcni reads a list as a whole first, and one
 * number beyond refuses it.
 *
 * @throws {JsonError} when there is a number that is too large.
 */
export function checkNumbers(node: JsonNode): void {
  if (node.kind === "object") { for (const { value } of node.members) checkNumbers(value); }
  else if (node.kind === "array") node.items.forEach(checkNumbers);
  else if (typeof node.value === "number" && !Number.isFinite(node.value)) {
    throw new JsonError("Expected numbers up to 1.8e308, found a larger one");
  }
}

function checkShape(node: JsonNode, shape: Shape, path: string): void {
  if (node.kind === "scalar" && node.value === null) return;
  if (typeof shape === "string") {
    if (node.kind === "scalar" && typeof node.value === shape) return;
    throw wrong(node, shape === "string" ? "a string" : "true or false", path);
  }
  if ("items" in shape) {
    if (node.kind !== "array") throw wrong(node, "an array", path);
    for (const [i, item] of node.items.entries()) checkShape(item, shape.items, `${path}[${i}]`);
    return;
  }
  if (node.kind !== "object") throw wrong(node, "an object", path);
  const shapeOf = "each" in shape ? () => shape.each : shapeByKey(shape.fields);
  for (const { key, value } of node.members) {
    const inner = shapeOf(key);
    if (inner !== undefined) checkShape(value, inner, path === "" ? key : `${path}.${key}`);
  }
}

function shapeByKey(fields: Readonly<Record<string, Shape>>): (key: string) => Shape | undefined {
  const byKey = new Map(Object.entries(fields).map(([key, shape]) => [foldedKey(key), shape]));
  return (key) => byKey.get(foldedKey(key));
}

function wrong(node: JsonNode, expected: string, path: string): JsonError {
  const found = node.kind === "scalar"
    ? JSON.stringify(node.value).slice(0, 60)
    : node.kind === "array"
    ? "an array"
    : "an object";
  return new JsonError(`Expected ${expected} at '${path.slice(0, 120)}', found ${found}`);
}
