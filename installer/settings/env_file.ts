/**
 * Settings from a file, so that every command on a host has those of the installation. Pure.
 *
 * The form is that which a shell can read, too: `NAME=value` lines, `#` comments, an `export` before
 * the name, and quotes round a value, which may then have several lines. Nothing is expanded.
 */
import { nearestName } from "../../src/text/nearest.ts";
import { declarations } from "./declarations.ts";
import { SettingsError } from "./settings.ts";

/**
 * Reads such a file.
 *
 * @param path The file's path, for messages.
 * @returns Values by the names of variables.
 * @throws {SettingsError} with the line of what is no setting.
 */
export function parseEnvFile(text: string, path: string): ReadonlyMap<string, string> {
  const known = new Set<string>(Object.values(declarations).map(({ variable }) => variable));
  const values = new Map<string, string>();
  let line = 1;
  const refuse = (problem: string): never => {
    throw new SettingsError(`${path}:${line}: ${problem}`, 1);
  };
  const entry =
    /[ \t]*(?:#[^\n]*|(?:export[ \t]+)?([^\s=#]+)=(?:'([^']*)'|"((?:\\[^]|[^"\\])*)"|([^\n'"]*))[ \t]*(?:#[^\n]*)?)?(?:\r?\n|$)/y;
  while (entry.lastIndex < text.length) {
    const found = entry.exec(text);
    if (found === null) return refuse("Expected NAME=value, NAME='value', or a comment");
    const [whole, name, single, double, plain] = found;
    if (name !== undefined) {
      if (!known.has(name)) {
        const nearest = nearestName(name, known);
        refuse(
          `There is no setting ${JSON.stringify(name.slice(0, 80))}` +
            (nearest === undefined ? "" : `; did you mean ${nearest}?`),
        );
      }
      if (values.has(name)) refuse(`${name} stands twice`);
      const value = single ?? double?.replace(/\\([\\"$`])/g, "$1").replace(/\\\n/g, "") ??
        plain!.replace(/(^|[ \t])#.*$/, "").trim();
      values.set(name, value);
    }
    line += whole.split("\n").length - 1;
  }
  return values;
}
