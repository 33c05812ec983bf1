/** `-o`: the format of what a command prints. */
import { Option } from "@commander-js/extra-typings";
// @ts-types="../../src/types/std_yaml_stringify.d.ts"
import { stringify } from "@std/yaml/stringify";

/** `-o, --output`: one of a command's formats, the first one by default. */
export function outputOption<const Formats extends readonly [string, ...string[]]>(
  formats: Formats,
): Option<
  "-o, --output <format>",
  undefined,
  Formats[0],
  undefined,
  false,
  Formats[number]
> {
  return new Option("-o, --output <format>", "format")
    .choices<Formats>(formats).default(formats[0]) as never;
}

/** Returns a value as JSON or YAML, with a final line end. */
export function formatData(value: unknown, format: "json" | "yaml"): string {
  const json = JSON.stringify(value, null, 2);
  // By way of JSON, so that both formats say the same of undefined and of objects with toJSON.
  return format === "json" ? `${json}\n` : stringify(JSON.parse(json), { lineWidth: -1 });
}
