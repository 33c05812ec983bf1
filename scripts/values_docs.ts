/**
 * Writes what is made from the declarations of the values: the chart's `values.yaml`,
 * `values.schema.json` and `platforms/`, and the tables of `docs/values.md`.
 *
 * Usage: deno run -A scripts/values_docs.ts && deno fmt docs deploy
 *
 * A test holds the files to the declarations.
 */
import { declaredValues } from "../installer/manifests/declarations.ts";
import {
  type Platform,
  type PlatformFacts,
  platforms,
  treeOfRow,
} from "../installer/manifests/platforms.ts";
import { valuesFile, valuesSchema, valuesYaml } from "../installer/manifests/schema.ts";
import { tableText, withPart } from "./document.ts";

const root = new URL("..", import.meta.url).pathname;

/** The chart's folder, relative to the project. */
export const chart = "deploy/helm/kuma-cni";

/** The document with the tables, relative to the project. */
export const valuesDocument = "docs/values.md";

/** Each row of each platform, with the name that its values file has. */
export function platformRows(): {
  readonly name: string;
  readonly platform: Platform;
  readonly facts: PlatformFacts;
}[] {
  return platforms.flatMap((platform) => [
    { name: platform.name, platform, facts: {} },
    ...(platform.hasAuxiliaryChain
      ? [{
        name: `${platform.name}-auxiliary-chain`,
        platform,
        facts: { auxiliaryChain: true },
      }]
      : []),
  ]);
}

/** The files that are made whole, by their path relative to the project. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const rows = platformRows().map(({ name, platform, facts }): [string, string] => {
    const row = platform.row(facts);
    const comments = [`${platform.title}; made by scripts/values_docs.ts`, ...row.steps]
      .map((line) => `# ${line}\n`).join("");
    return [`${chart}/platforms/${name}.yaml`, comments + valuesFile(treeOfRow(row))];
  });
  return new Map([
    [`${chart}/values.yaml`, valuesYaml()],
    [`${chart}/values.schema.json`, JSON.stringify(valuesSchema(), undefined, 2) + "\n"],
    ...rows,
  ]);
}

/** Puts the tables between the document's marks. */
export function withValues(document: string): string {
  const values = tableText(
    ["Value", "Default", "Meaning", "Expected", "Goes to"],
    declaredValues().map(([name, { default: preset, help, kind, goesTo }]) => [
      `\`${name}\``,
      preset === "" ? "" : `\`${JSON.stringify(preset)}\``,
      help,
      kind.words.replaceAll("*", "\\*"),
      goesTo,
    ]),
  );
  const dirs = tableText(
    ["`--platform`", "Environment", "Values"],
    platformRows().map(({ name, platform, facts }) => [
      facts.auxiliaryChain ? `\`${platform.name} --auxiliary-chain\`` : `\`${name}\``,
      platform.title,
      Object.entries(platform.row(facts).values)
        .map(([path, value]) => `\`${path}=${typeof value === "object" ? `{${value}}` : value}\``)
        .join(", "),
    ]),
  );
  return withPart(document, "scripts/values_docs.ts", `${values}\n### Platforms\n\n${dirs}`);
}

if (import.meta.main) {
  Deno.mkdirSync(`${root}${chart}/platforms`, { recursive: true });
  for (const [path, text] of generatedFiles()) Deno.writeTextFileSync(`${root}${path}`, text);
  const path = `${root}${valuesDocument}`;
  Deno.writeTextFileSync(path, withValues(Deno.readTextFileSync(path)));
}
