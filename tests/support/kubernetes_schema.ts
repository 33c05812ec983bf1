/**
 * Checks objects against the OpenAPI schema of Kubernetes 1.36, as the models of the npm package
 * `@kubernetes/client-node` have it: a field that is not there, a wrong type, or one that is missing.
 */
import { type Tree } from "../../installer/manifests/tree.ts";
import { isRecord } from "../../src/json/record.ts";
import { packageFolder, runProgram } from "./npm_package.ts";

interface Field {
  readonly baseName: string;
  readonly type: string;
}

/** Returns a function that lists what is wrong with an object. */
export async function kubernetesSchema(): Promise<(object: Tree) => string[]> {
  const folder = await packageFolder(
    "@kubernetes/client-node@2.0.1",
    "529573967a18fb8da9b1861b99c69b1d201c6015aa0f5a651e390a1386162ded",
    (archive, target) =>
      runProgram("tar", ["-xzf", archive, "-C", target, "package/dist/gen/models"]),
  );
  const models = `${folder}/package/dist/gen/models`;
  return (object) => {
    const { apiVersion, kind } = object;
    const version = String(apiVersion).split("/").at(-1)!;
    const model = `${version[0]!.toUpperCase()}${version.slice(1)}${kind}`;
    return problemsOf(models, model, object, String(kind));
  };
}

function problemsOf(models: string, model: string, value: unknown, path: string): string[] {
  if (!isRecord(value)) return [`${path} is not a mapping`];
  const fields = fieldsOf(models, model);
  const known = new Map(fields.map(({ baseName, type }) => [baseName, type]));
  const declared = Deno.readTextFileSync(`${models}/${model}.d.ts`);
  const required = Array.from(declared.matchAll(/^ {4}'(\w+)':/gm), ([, name]) => name!);
  return [
    ...required.filter((name) => !Object.hasOwn(value, name))
      .map((name) => `${path}.${name} is missing`),
    ...Object.entries(value).flatMap(([key, below]) => {
      const type = known.get(key);
      const at = `${path}.${key}`;
      return type === undefined ? [`${at} is not a field of ${model}`] : typeProblems(
        models,
        type,
        below,
        at,
      );
    }),
  ];
}

function typeProblems(models: string, type: string, value: unknown, path: string): string[] {
  const item = /^Array<(.*)>$/.exec(type)?.[1];
  if (item !== undefined) {
    return Array.isArray(value)
      ? value.flatMap((one, i) => typeProblems(models, item, one, `${path}[${i}]`))
      : [`${path} is not a list`];
  }
  const below = /^\{ \[key: string\]: (.*); \}$/.exec(type)?.[1];
  if (below !== undefined) {
    return isRecord(value)
      ? Object.entries(value).flatMap(([k, one]) =>
        typeProblems(models, below, one, `${path}.${k}`)
      )
      : [`${path} is not a mapping`];
  }
  switch (type) {
    case "string":
      return typeof value === "string" ? [] : [`${path} is not a text`];
    case "number":
      return typeof value === "number" ? [] : [`${path} is not a number`];
    case "boolean":
      return typeof value === "boolean" ? [] : [`${path} is not true or false`];
    case "IntOrString":
      return typeof value === "string" || Number.isInteger(value) ? [] : [`${path} is no count`];
    default:
      return problemsOf(models, type, value, path);
  }
}

/** The model's table of fields is JSON, but for its name. */
function fieldsOf(models: string, model: string): Field[] {
  const text = Deno.readTextFileSync(`${models}/${model}.js`);
  const table = /attributeTypeMap = (\[[^]*?\n\]|\[\]);/.exec(text)?.[1];
  if (table === undefined) throw new Error(`The model ${model} has no table of fields`);
  return JSON.parse(table);
}
