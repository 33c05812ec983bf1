/**
 * Reads the settings of install-cni. Each is declared once, in {@linkcode declarations}; types,
 * environment variables, flags, `--help` and the documentation come from there.
 *
 * Names, defaults and the forms of booleans are those of the reference installer.
 */
import { quote } from "../../src/text/quote.ts";
import { controllerDeclarations, type ControllerSettings } from "./controller_declarations.ts";
import { type Declaration, declarations, type Settings } from "./declarations.ts";
import { kinds } from "./kinds.ts";
import { problemOfOwnNetwork } from "./plugin_entry.ts";

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
    // What is wrong in it must not keep anybody from uninstalling.
    const isNotNeeded = declaration.kind === "json" && !options.needsConfig &&
      "reason" in kinds.json.parse(value);
    return [name, isNotNeeded ? "" : parseValue(declaration, value)];
  });
  const settings = Object.fromEntries(values) as Settings;
  if (!settings.chained && settings.confName.endsWith(".conflist")) {
    throw new SettingsError(
      `CNI_CONF_NAME is ${JSON.stringify(settings.confName)}, expected a name ending in .conf, ` +
        "since CHAINED_CNI_PLUGIN is false and runtimes expect a list in a .conflist file",
      1,
    );
  }
  const problem = settings.chained || settings.networkConfig === ""
    ? undefined
    : problemOfOwnNetwork(settings.networkConfig);
  if (problem !== undefined) throw new SettingsError(`CNI_NETWORK_CONFIG: ${problem}`, 1);
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
  if (value === "") {
    throw new SettingsError(
      `${declaration.variable} is not set, expected ${
        allowedValues(declaration)
      }; an installation's ` +
        "settings are in the environment of its container, or in the file that --env-file names",
      1,
    );
  }
  const reason = parsed.reason === "" ? "" : ` (${parsed.reason})`;
  throw new SettingsError(
    `${declaration.variable} is ${quote(value)}${reason}, ` +
      `expected ${allowedValues(declaration)}`,
    declaration.kind === "level" ? 2 : 1,
  );
}
