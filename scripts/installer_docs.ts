/**
 * Writes the tables of settings of `docs/installer.md` and `docs/controller.md` from their
 * declarations: `deno run -A scripts/installer_docs.ts`. A test holds the files to it.
 */
import { allowedValues } from "../installer/settings/settings.ts";
import { controllerDeclarations } from "../installer/settings/controller_declarations.ts";
import { type Declaration, declarations } from "../installer/settings/declarations.ts";
import { tableText, withPart } from "./document.ts";

/** A document with a table of settings. */
export interface SettingsDocument {
  readonly file: URL;
  readonly settings: readonly Declaration[];
}

/** All of them. */
export const settingsDocuments: readonly SettingsDocument[] = [
  {
    file: new URL("../docs/installer.md", import.meta.url),
    settings: Object.values(declarations),
  },
  {
    file: new URL("../docs/controller.md", import.meta.url),
    settings: Object.values(controllerDeclarations),
  },
];

/** Returns a document's text with the table between its marks. */
export function withSettings({ file, settings }: SettingsDocument): string {
  const document = Deno.readTextFileSync(file);
  return withPart(document, "scripts/installer_docs.ts", settingsTable(settings));
}

function settingsTable(settings: readonly Declaration[]): string {
  return tableText(
    ["Variable", "Default", "Meaning", "Expected"],
    settings.map((declaration) => [
      `\`${declaration.variable}\``,
      defaultOf(declaration),
      withCode(declaration.help),
      allowedValues(declaration),
    ]),
  );
}

function defaultOf({ default: value }: Declaration): string {
  return value === "" ? "" : `\`${value}\``;
}

/** Two underscores would be bold text. */
function withCode(help: string): string {
  return help.replace(/__\w+__/g, "`$&`");
}

if (import.meta.main) {
  for (const document of settingsDocuments) {
    Deno.writeTextFileSync(document.file, withSettings(document));
  }
}
