/** Puts together what a user gave: files, kumactl's flags, and the kinds of `--set`, in Helm's order. */
import { declaredValues, type ValueName } from "./declarations.ts";
import { applySet, type SetFlag } from "./set_syntax.ts";
import { overlay, setMember, type Tree, ValuesError } from "./tree.ts";
import { setAt } from "./values.ts";
import { parseValuesFile } from "./values_file.ts";

/** What was given, each in the order of the command line. */
export interface GivenValues {
  /** Values of the platform: everything else wins over them. */
  readonly platform: Tree;
  /** Texts of values files. */
  readonly files: readonly { readonly name: string; readonly text: string }[];
  /** kumactl's flags, by the value that they are for. */
  readonly flags: readonly { readonly name: ValueName; readonly value: string }[];
  readonly setJson: readonly string[];
  readonly set: readonly string[];
  readonly setString: readonly string[];
  readonly setFile: readonly string[];
  /** Reads the file of a `--set-file`. */
  readonly readFile: (path: string) => string;
}

/**
 * Merges all sources; later ones win.
 *
 * @throws {ValuesError} when one of them cannot be read.
 */
export function gatherValues(given: GivenValues): Tree {
  let tree: Tree = {};
  for (const { name, text } of given.files) tree = overlay(tree, parseValuesFile(text, name));
  for (const { name, value } of given.flags) tree = overlay(tree, treeOfFlag(name, value));
  const sets: [SetFlag, readonly string[]][] = [
    ["--set-json", given.setJson],
    ["--set", given.set],
    ["--set-string", given.setString],
    ["--set-file", given.setFile],
  ];
  for (const [flag, values] of sets) {
    for (const value of values) tree = applySet(flag, value, tree, given.readFile);
  }
  return overlay(given.platform, tree);
}

/** A flag of kumactl means the text as it is; that of a mapping is `name=value,name=value`. */
function treeOfFlag(name: ValueName, value: string): Tree {
  const declaration = declaredValues().find(([candidate]) => candidate === name)![1];
  const tree: Tree = {};
  if (declaration.kind.schema.type === "boolean") {
    setAt(tree, name, value === "true" ? true : value === "false" ? false : value);
  } else if (declaration.kind.schema.type === "object") {
    setAt(tree, name, pairs(declaration.flag ?? name, value));
  } else {
    setAt(tree, name, value);
  }
  return tree;
}

function pairs(flag: string, value: string): Tree {
  const tree: Tree = {};
  for (const pair of value.split(",")) {
    const [, key, text] = /^([^=]+)=(.*)$/s.exec(pair) ?? [];
    if (key === undefined) {
      throw new ValuesError(`${flag} is "${pair}", expected NAME=VALUE, several with , between`);
    }
    setMember(tree, key, text);
  }
  return tree;
}
