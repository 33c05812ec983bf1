/**
 * Reads the settings of install-cni. Each is declared once, in {@linkcode declarations}; types,
 * environment variables, flags, `--help` and the documentation come from there.
 *
 * Names, defaults and the forms of booleans are those of the reference installer.
 */
import { controllerDeclarations, type ControllerSettings } from "./controller_declarations.ts";
import { type Declaration, declarations, type Settings } from "./declarations.ts";
import { kinds } from "./kinds.ts";

/** A setting has a value that is not allowed; the message is one line for people. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
  /** @param exitCode The reference installer's exit code for it. */
  constructor(message: string, readonly exitCode: number) {
    super(message);
  }
}

/** Returns the flag of a setting, for example `--cni-net-dir`. */
export function flagOf(declaration: Declaration): string {
  return `--${declaration.variable.toLowerCase().replaceAll("_", "-")}`;
}

/** Returns in words what a setting may be. */
export function allowedValues(declaration: Declaration): string {
  return kinds[declaration.kind].allowed;
}

/**
 * Reads the settings.
 *
 * @param read Returns the value of an environment variable or of its flag; `undefined` or empty: the
 * default.
 * @param options.needsConfig Whether the plugin's configuration must be there; uninstalling, for
 * example, needs none.
 * @throws {SettingsError} with the first wrong value, in one line.
 */
export function parseSettings(
  read: (declaration: Declaration) => string | undefined,
  options: { readonly needsConfig: boolean } = { needsConfig: true },
): Settings {
  const values = Object.entries(declarations).map(([name, declaration]) => {
    const value = read(declaration) || declaration.default;
    const isNotNeeded = declaration.kind === "json" && value === "" && !options.needsConfig;
    return [name, isNotNeeded ? value : parseValue(declaration, value)];
  });
  const settings = Object.fromEntries(values) as Settings;
  if (!settings.chained && settings.confName.endsWith(".conflist")) {
    throw new SettingsError(
      `CNI_CONF_NAME is ${JSON.stringify(settings.confName)}, wanted a name ending in .conf, ` +
        "since CHAINED_CNI_PLUGIN is false and runtimes expect a list in a .conflist file",
      1,
    );
  }
  if (settings.confNameIsLoaded && settings.confName === "") {
    throw new SettingsError(
      "CNI_CONF_NAME_IS_LOADED is true, and CNI_CONF_NAME names no file; set it",
      1,
    );
  }
  return settings;
}

/**
 * Reads the settings of `install-cni controller`.
 *
 * @param read as for {@linkcode parseSettings}.
 * @param options.needsApp Whether the DaemonSet must be known, as for everything but a removal.
 * @throws {SettingsError} with the first wrong value, in one line.
 */
export function parseControllerSettings(
  read: (declaration: Declaration) => string | undefined,
  options: { readonly needsApp: boolean } = { needsApp: true },
): ControllerSettings {
  const settings = Object.fromEntries(
    Object.entries(controllerDeclarations).map(([name, declaration]) => [
      name,
      parseValue(declaration, read(declaration) || declaration.default),
    ]),
  ) as ControllerSettings;
  if (options.needsApp && settings.taintEnabled && settings.cniApp === "") {
    const { cniApp, taintEnabled } = controllerDeclarations;
    throw new SettingsError(
      `${cniApp.variable} is "", expected the label "app" of the DaemonSet's pods, such as ` +
        `kuma-cni, since ${taintEnabled.variable} is true`,
      1,
    );
  }
  return settings;
}

function parseValue(declaration: Declaration, value: string): unknown {
  const parsed = kinds[declaration.kind].parse(value);
  if ("value" in parsed) return parsed.value;
  const reason = parsed.reason === "" ? "" : ` (${parsed.reason})`;
  throw new SettingsError(
    `${declaration.variable} is ${JSON.stringify(shortened(value))}${reason}, ` +
      `wanted ${allowedValues(declaration)}`,
    declaration.kind === "level" ? 2 : 1,
  );
}

function shortened(value: string): string {
  return value.length <= 80 ? value : `${value.slice(0, 77)}...`;
}
