/** `values.schema.json` and `values.yaml` of the chart, made from the declarations. */
// @ts-types="../../src/types/std_yaml_stringify.d.ts"
import { stringify } from "@std/yaml/stringify";
import { declaredValues } from "./declarations.ts";
import { type Condition, type ValueRule, valueRules } from "./value_rules.ts";
import type { Tree } from "./tree.ts";

/** Returns the JSON schema, draft 7, that Helm checks values by. */
export function valuesSchema(): Tree {
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Values of kuma-cni",
    ...objectSchema(""),
    allOf: valueRules.map((rule) => ({ not: brokenSchema(rule) })),
  };
}

function objectSchema(prefix: string): Tree {
  const properties: Tree = {};
  const required: string[] = [];
  for (const [name, declaration] of declaredValues()) {
    if (!name.startsWith(prefix)) continue;
    const [key = "", ...below] = name.slice(prefix.length).split(".");
    if (Object.hasOwn(properties, key)) continue;
    if (below.length > 0) {
      properties[key] = objectSchema(`${prefix}${key}.`);
    } else {
      const { kind, help } = declaration;
      properties[key] = { description: help, ...kind.schema };
      if (kind.empty !== undefined) continue;
    }
    required.push(key);
  }
  return {
    type: "object",
    properties,
    // Helm hands all of "global" to each chart, whoever its keys are for.
    additionalProperties: prefix === "global.",
    ...(required.length === 0 ? {} : { required }),
  };
}

function brokenSchema({ brokenBy }: ValueRule): Tree {
  const conditions = Object.entries(brokenBy).map(([path, condition]) =>
    path.split(".").reduceRight<Tree>(
      (below, key) => ({ type: "object", properties: { [key]: below }, required: [key] }),
      conditionSchema(condition),
    )
  );
  return { allOf: conditions };
}

function conditionSchema(condition: Condition): Tree {
  return "is" in condition ? { const: condition.is } : { type: "string", pattern: condition.fits };
}

/** Returns the text of `values.yaml`: all values with their defaults and what they are for. */
export function valuesYaml(): string {
  const lines = [
    "# Made from installer/manifests/declarations.ts by scripts/values_docs.ts; do not edit.",
    "# docs/values.md has all of this as a table.",
  ];
  writeMembers(lines, "", "");
  return lines.join("\n") + "\n";
}

function writeMembers(lines: string[], prefix: string, indent: string): void {
  const done = new Set<string>();
  for (const [name, { default: preset, help, kind }] of declaredValues()) {
    if (!name.startsWith(prefix)) continue;
    const [key = "", ...below] = name.slice(prefix.length).split(".");
    if (done.has(key)) continue;
    done.add(key);
    if (below.length > 0) {
      lines.push(`${indent}${key}:`);
      writeMembers(lines, `${prefix}${key}.`, `${indent}  `);
      continue;
    }
    lines.push(
      ...wrapped(`${help} (${kind.words})`, 98 - indent.length).map((line) => `${indent}# ${line}`),
    );
    const text = stringify({ [key]: preset }, { useAnchors: false }).trimEnd();
    lines.push(...text.split("\n").map((line) => `${indent}${line}`));
  }
}

function wrapped(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines[lines.length - 1]!;
    if (line === "") lines[lines.length - 1] = word;
    else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** Returns a values file of exactly what differs from the defaults, for Helm's `-f`. */
export function valuesFile(given: Tree): string {
  return Object.keys(given).length === 0 ? "{}\n" : stringify(given, { useAnchors: false });
}
