/**
 * Pure edits of CNI configuration texts: chain our plugin behind the others, take it out again, turn
 * a single-plugin configuration into a list. Whatever is not ours keeps its bytes.
 *
 * All texts are byte strings (see `json_edit.ts`). Format: CNI specification, section 1 "Network
 * configuration format"; which file may hold what: libcni, `conf.go`.
 */
import {
  byteStringOf,
  fieldOf,
  isSameJson,
  type JsonArray,
  JsonError,
  type JsonNode,
  type JsonObject,
  type JsonText,
  memberOf,
  parseJson,
  parseText,
  stringFieldOf,
  stringMemberOf,
} from "./json_edit.ts";
import {
  formatJson,
  indentationAt,
  type JsonLayout,
  layoutOf,
  lineEndIn,
  replaceSpans,
} from "./json_layout.ts";

/** The `type` of our chain entry, which is also the plugin's file name. */
export const pluginType = "kuma-cni";

/** The reference installer's name for the rare single configuration that has none. */
const unnamedNetwork = "k8s-pod-network";

/** A configuration list as the runtimes load it from a `.conflist` file. */
export interface ParsedList extends JsonText {
  readonly root: JsonObject;
  readonly plugins: JsonArray;
}

/** A single plugin's configuration as the runtimes load it from a `.conf` or `.json` file. */
export interface ParsedSingle extends JsonText {
  readonly root: JsonObject;
}

/**
 * Returns a configuration list.
 *
 * @throws {JsonError} when it is not a list that a runtime would load.
 */
export function listOf({ text, root }: JsonText): ParsedList {
  if (root.kind !== "object") throw new JsonError("Expected an object with the key 'plugins'");
  const plugins = memberOf(root, "plugins");
  if (plugins === undefined) throw new JsonError("The key 'plugins' is missing");
  if (plugins.kind !== "array") throw new JsonError("Expected an array under the key 'plugins'");
  for (const [i, plugin] of plugins.items.entries()) {
    if (plugin.kind !== "object") throw new JsonError(`Expected an object at 'plugins[${i}]'`);
    if (stringFieldOf(plugin, "type") === undefined) {
      throw new JsonError(`Expected a string at 'plugins[${i}].type'`);
    }
  }
  if (!stringMemberOf(root, "name")) throw new JsonError("Expected a non-empty string at 'name'");
  return { text, root, plugins };
}

/**
 * Returns a single plugin's configuration.
 *
 * @throws {JsonError} when it has no `type`.
 */
export function singleOf({ text, root }: JsonText): ParsedSingle {
  if (root.kind !== "object") throw new JsonError("Expected an object with the key 'type'");
  if (!stringFieldOf(root, "type")) throw new JsonError("Expected a non-empty string at 'type'");
  return { text, root };
}

/** Returns the types of a list's plugins in order. */
export function typesOf(list: ParsedList): string[] {
  return list.plugins.items.map((plugin) => stringFieldOf(plugin, "type") ?? "");
}

/** Tells whether a list carries exactly our entry, once and last. */
export function isChained(list: ParsedList, entry: JsonText): boolean {
  const types = typesOf(list);
  if (types.length < 2 || types.indexOf(pluginType) !== types.length - 1) return false;
  const ours = list.plugins.items.at(-1)!;
  return isSameJson({ text: list.text, root: ours }, entry);
}

/**
 * Chains our entry: last and only once. A list that is chained already is returned as it is.
 *
 * @param list A list with at least one other plugin.
 * @param entry Our entry, a JSON object.
 * @returns The edited text.
 * @throws {JsonError} when the list holds no plugin but ours.
 */
export function chain(list: ParsedList, entry: JsonText): string {
  if (isChained(list, entry)) return list.text;
  const bare = unchain(list);
  const { plugins } = bare === list.text ? list : listOf(parseText(bare));
  const last = plugins.items.at(-1);
  if (last === undefined) throw new JsonError("There is no plugin in 'plugins' to be chained to");
  const previous = plugins.items.at(-2);
  const gap = bare.slice(previous === undefined ? plugins.start + 1 : previous.end, last.start)
    .replace(/^\s*,/, "");
  const layout = layoutFor(bare, last as JsonObject, gap);
  const base = indentationAt(bare, last.start) ?? "";
  const separator = layout.lineEnd !== "" || gap !== "" ? gap : layout.spaced ? " " : "";
  return bare.slice(0, last.end) + "," + separator +
    formatJson(entry.text, entry.root, layout, base) + bare.slice(last.end);
}

/**
 * Takes every entry of ours out of a list; the exact inverse of {@linkcode chain}.
 *
 * @returns The edited text; the text itself when there is no entry of ours.
 */
export function unchain({ text, plugins: { items } }: ParsedList): string {
  const isOurs = (node: JsonNode) => stringFieldOf(node, "type") === pluginType;
  if (!items.some(isOurs)) return text;
  const kept = items.filter((item) => !isOurs(item));
  if (kept.length === 0) {
    return replaceSpans(text, [{ start: items[0]!.start, end: items.at(-1)!.end, by: "" }]);
  }
  const spans: { start: number; end: number; by: string }[] = [];
  let leading = true;
  for (const [i, item] of items.entries()) {
    if (!isOurs(item)) leading = false;
    else if (leading) spans.push({ start: item.start, end: items[i + 1]!.start, by: "" });
    else spans.push({ start: items[i - 1]!.end, end: item.end, by: "" });
  }
  return replaceSpans(text, spans);
}

/**
 * Makes the list that a runtime would make of a single plugin's configuration, with our entry
 * behind the plugin. Network name and version stay: runtimes and IPAM plugins keep state under them.
 *
 * @returns Byte string of the `.conflist` file.
 */
export function listOfSingle({ text, root }: ParsedSingle, entry: JsonText): string {
  const raw = (key: string) => {
    const value = fieldOf(root, key);
    return value === undefined ? undefined : text.slice(value.start, value.end);
  };
  const version = raw("cniVersion");
  const name = stringFieldOf(root, "name") ? raw("name") : `"${unnamedNetwork}"`;
  const layout: JsonLayout = { lineEnd: "\n", unit: "  ", spaced: true };
  return "{\n" +
    (version === undefined ? "" : `  "cniVersion": ${version},\n`) +
    `  "name": ${name},\n` +
    '  "plugins": [\n' +
    `    ${formatJson(text, root, layout, "    ")},\n` +
    `    ${formatJson(entry.text, entry.root, layout, "    ")}\n` +
    "  ]\n}\n";
}

/**
 * Tells whether a list is one of {@linkcode listOfSingle}: its first plugin still carries the
 * network's name, as plugins of other lists do not; without a name every byte must be ours.
 */
export function isListOfSingle(list: ParsedList): boolean {
  const [first, entry] = list.plugins.items;
  if (first === undefined) return false;
  const name = stringFieldOf(first, "name");
  if (name) return name === stringMemberOf(list.root, "name");
  const raw = (node: JsonNode) => list.text.slice(node.start, node.end);
  return entry !== undefined &&
    list.text === listOfSingle(singleOf(parseText(raw(first))), parseText(raw(entry)));
}

/**
 * Undoes what the reference installer does to a `.conf` file: it writes a list into it, which
 * runtimes refuse under that extension.
 *
 * @param json What a `.conf` or `.json` file says.
 * @returns The single plugin's configuration again, or `undefined` when it is not such a list.
 */
export function singleOfReferenceList(json: JsonText): string | undefined {
  let list: ParsedList;
  try {
    list = listOf(json);
  } catch {
    return undefined;
  }
  if (fieldOf(list.root, "type") !== undefined) return undefined;
  const others = list.plugins.items.filter((item) => stringFieldOf(item, "type") !== pluginType);
  const [only] = others;
  if (others.length !== 1 || only === undefined) return undefined;
  if (stringMemberOf(list.root, "name") !== unnamedNetwork) return undefined;
  const layout = layoutOf(json.text, only as JsonObject);
  return formatJson(json.text, only, layout, "");
}

/** What our chain entry and standalone file are made of. */
export interface EntryFacts {
  /** Path of the kubeconfig on the host. */
  readonly kubeconfigPath: string;
  /** Path of the agent's socket on the host. */
  readonly agentSocketPath: string;
  /** Content of the service account's token file. */
  readonly token: string;
}

/**
 * Makes the plugin's configuration from the administrator's text: fills the placeholders
 * `__KUBECONFIG_FILEPATH__` and `__SERVICEACCOUNT_TOKEN__`, and adds the agent's socket and the `dns`
 * capability (which makes runtimes pass the pod's resolvers) unless the text already decides them.
 *
 * @param template The text of `CNI_NETWORK_CONFIG`.
 * @returns Byte string of the JSON object; bytes of the template stay.
 * @throws {JsonError} when the text is no JSON object of our type.
 */
export function fillTemplate(template: string, facts: EntryFacts): string {
  const quoted = (text: string) => JSON.stringify(text).slice(1, -1);
  const text = byteStringOf(
    template
      .replaceAll("__KUBECONFIG_FILEPATH__", () => quoted(facts.kubeconfigPath))
      .replaceAll("__SERVICEACCOUNT_TOKEN__", () => quoted(facts.token)),
  );
  const root = parseJson(text);
  if (root.kind !== "object") throw new JsonError("Expected an object");
  const type = memberOf(root, "type");
  if (stringMemberOf(root, "type") !== pluginType) {
    const actual = type === undefined ? "nothing" : text.slice(type.start, type.end);
    throw new JsonError(`Expected "${pluginType}" at 'type', found ${actual}`);
  }
  const additions: string[] = [];
  if (memberOf(root, "agent") === undefined) {
    additions.push(`"agent": ${JSON.stringify({ socket: facts.agentSocketPath })}`);
  }
  if (memberOf(root, "capabilities") === undefined) {
    additions.push('"capabilities": {"dns": true}');
  }
  const last = root.members.at(-1)!;
  const layout = layoutOf(text, root);
  const indentation = indentationAt(text, last.keyStart) ?? "";
  const separator = layout.lineEnd === ""
    ? layout.spaced ? ", " : ","
    : `,${layout.lineEnd}${indentation}`;
  const by = additions.map((addition) => separator + formatAddition(addition, layout)).join("");
  return replaceSpans(text, [{ start: last.value.end, end: last.value.end, by }]);
}

function formatAddition(addition: string, layout: JsonLayout): string {
  const bytes = byteStringOf(`{${addition}}`);
  const flat = { ...layout, lineEnd: "" };
  return formatJson(bytes, parseJson(bytes), flat, "").slice(1, -1);
}

/** Layout for an object that is to stand beside `sibling`, with `gap` before it. */
function layoutFor(text: string, sibling: JsonObject, gap: string): JsonLayout {
  const own = layoutOf(text, sibling);
  if (own.lineEnd !== "") return own;
  const lineEnd = lineEndIn(gap);
  // Objects written on one line each, in a list over many lines: ours goes on one line as well.
  return { lineEnd: "", unit: "", spaced: own.spaced || (lineEnd !== "" && own.spaced) };
}
