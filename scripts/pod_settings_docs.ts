/**
 * Writes the tables of `docs/configuration.md` that come from declarations in the code:
 * `deno run -A scripts/pod_settings_docs.ts`. A test holds the file to them.
 */
import { type PodSetting, podSettings } from "../src/pod/pod_settings.ts";
import { tableText, withPart } from "./document.ts";

/** The file with the tables. */
export const DOCUMENT = new URL("../docs/configuration.md", import.meta.url);

/** Puts the tables between the document's marks. */
export function withPodSettings(document: string): string {
  return withPart(document, "scripts/pod_settings_docs.ts", podSettingsTable());
}

/** The settings as a table in Markdown. */
export function podSettingsTable(): string {
  const header = ["Setting", "Type", "Default", "", "Meaning and treatment"];
  const rows = podSettings().map((setting) => [
    name(setting),
    setting.type,
    setting.annotationDefault === undefined
      ? setting.default
      : `${setting.default}; annotation: ${setting.annotationDefault}`,
    setting.treatment,
    setting.meaning,
  ]);
  return tableText(header, rows);
}

function name({ key, annotation }: PodSetting): string {
  return [key, annotation].filter((text) => text !== undefined)
    .map((text) => `\`${text}\``).join("<br>");
}

if (import.meta.main) {
  Deno.writeTextFileSync(DOCUMENT, withPodSettings(Deno.readTextFileSync(DOCUMENT)));
}
