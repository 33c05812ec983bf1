/** Settings on the command line: one flag for each, generated from the declarations. */
import { type Command, Option } from "@commander-js/extra-typings";
import { Logger } from "../../src/log/log.ts";
import { writeToStderr } from "../../src/log/stderr.ts";
import { pluginType } from "../conflist/conflist.ts";
import { folderOf } from "../host/host_files.ts";
import { type Declaration, declarations, type Settings } from "../settings/declarations.ts";
import type { ControllerSettings } from "../settings/controller_declarations.ts";
import { kinds } from "../settings/kinds.ts";
import {
  flagOf,
  parseControllerSettings,
  parseSettings,
  SettingsError,
} from "../settings/settings.ts";

/** Adds the flags of settings to a command; of all of the node agent's unless told. */
export function addSettings(
  command: Command,
  settings: readonly Declaration[] = Object.values(declarations),
): void {
  for (const declaration of settings) {
    const flags = `${flagOf(declaration)} <${kinds[declaration.kind].placeholder}>`;
    const option = new Option(flags, helpOf(declaration)).helpGroup("Settings:");
    command.addOption(option as never);
  }
}

function helpOf({ default: preset, help, variable }: Declaration): string {
  const start = preset === "" ? "" : `default: ${preset}; `;
  return `${help} (${start}env: ${variable})`;
}

/**
 * Reads the settings from flags, then the environment, then the defaults; ends the process with one
 * line for people when one is wrong.
 */
export function settingsOf(command: Command, options = { needsConfig: true }): Settings {
  return orExit(() => parseSettings(readerOf(command), options));
}

/** Reads the settings of the controller in the same way. */
export function controllerSettingsOf(
  command: Command,
  options = { needsApp: true },
): ControllerSettings {
  return orExit(() => parseControllerSettings(readerOf(command), options));
}

function readerOf(command: Command): (declaration: Declaration) => string | undefined {
  const flags = command.optsWithGlobals() as Record<string, unknown>;
  return (declaration) => {
    const flag = flags[optionName(declaration)];
    return typeof flag === "string" ? flag : Deno.env.get(declaration.variable);
  };
}

function orExit<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    console.error(`install-cni: ${error.message}`);
    Deno.exit(error.exitCode);
  }
}

/** Name under which commander keeps a flag's value. */
function optionName(declaration: Declaration): string {
  return declaration.variable.toLowerCase().replace(/_([a-z])/g, (_, c) => c.toUpperCase());
}

/** Makes the logger of this program; its lines go to stderr. */
export function loggerOf(settings: Settings): Logger {
  return new Logger("install-cni", settings.logLevel, writeToStderr);
}

/**
 * Returns the folder of the plugin's files: the image's, else that of this program. On a host the
 * image's folder can be the very one that is installed to, which is no source.
 */
export function sourceDirOf(settings: Settings): string {
  if (settings.sourceDir !== "") return settings.sourceDir;
  const image = "/opt/cni/bin";
  try {
    const isTarget = Deno.realPathSync(image) === Deno.realPathSync(settings.mountedBinDir);
    if (!isTarget && Deno.statSync(`${image}/${pluginType}`).isFile) return image;
  } catch {
    // Not in the image.
  }
  return folderOf(Deno.execPath());
}
