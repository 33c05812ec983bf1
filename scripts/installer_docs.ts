/**
 * Writes the table of settings of `docs/installer.md` from their declarations:
 * `deno run -A scripts/installer_docs.ts`. A test holds the file to it.
 */
import { allowedValues } from "../installer/settings/settings.ts";
import { type Declaration, declarations } from "../installer/settings/declarations.ts";
import { tableText, withPart } from "./document.ts";

/** The file with the table. */
export const DOCUMENT = new URL("../docs/installer.md", import.meta.url);

/** Puts the table between the document's marks. */
export function withInstallerSettings(document: string): string {
  return withPart(document, "scripts/installer_docs.ts", installerSettingsTable());
}

/** The settings as a table in Markdown. */
export function installerSettingsTable(): string {
  return tableText(
    ["Variable", "Default", "Meaning", "Expected"],
    Object.values(declarations).map((declaration) => [
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
  Deno.writeTextFileSync(DOCUMENT, withInstallerSettings(Deno.readTextFileSync(DOCUMENT)));
}
