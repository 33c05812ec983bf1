/** Settings on the command line: one flag for each, generated from the declarations. */
import { type Command, Option } from "@commander-js/extra-typings";
import { readRegularFile } from "../../src/linux/regular_file.ts";
import { Logger } from "../../src/log/log.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { stderrSink } from "../../src/log/stderr.ts";
import { pluginType } from "../conflist/conflist.ts";
import { folderOf } from "../host/host_files.ts";
import {
  type Declaration,
  declarations,
  type Settings,
  type SettingsCommand,
} from "../settings/declarations.ts";
import { parseEnvFile } from "../settings/env_file.ts";
import { kinds } from "../settings/kinds.ts";
import { flagOf, parseSettings, SettingsError } from "../settings/settings.ts";

/**
 * Adds the flags of all settings to a command. Its help names those that matter to it; the others
 * are taken as well, so that one set of flags fits all commands.
 */
export function addSettings(command: Command, like: SettingsCommand): void {
  for (const declaration of Object.values(declarations)) {
    const flags = `${flagOf(declaration)} <${kinds[declaration.kind].placeholder}>`;
    const { mattersTo }: Declaration = declaration;
    const option = new Option(flags, helpOf(declaration)).helpGroup("Settings:")
      .hideHelp(mattersTo?.includes(like) === false);
    command.addOption(option as never);
  }
  command.addOption(
    new Option(
      "--env-file <path>",
      "file with settings as NAME=value lines; flags and the environment win over it",
    ) as never,
  );
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
  const flags = command.optsWithGlobals() as Record<string, unknown>;
  try {
    const file = envFileOf(flags.envFile);
    return parseSettings((declaration) => {
      const flag = flags[optionName(declaration)];
      if (typeof flag === "string") return flag;
      return Deno.env.get(declaration.variable) || file.get(declaration.variable);
    }, options);
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    console.error(`install-cni: ${error.message}`);
    Deno.exit(error.exitCode);
  }
}

function envFileOf(path: unknown): ReadonlyMap<string, string> {
  if (typeof path !== "string") return new Map();
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(readRegularFile(path));
  } catch (error) {
    throw new SettingsError(`Cannot use --env-file: ${messageOf(error)}`, 1);
  }
  return parseEnvFile(text, path);
}

/** Name under which commander keeps a flag's value. */
function optionName(declaration: Declaration): string {
  return declaration.variable.toLowerCase().replace(/_([a-z])/g, (_, c) => c.toUpperCase());
}

/** Makes the logger of this program; its lines go to stderr. */
export function loggerOf(settings: Settings): Logger {
  return new Logger("install-cni", settings.logLevel, stderrSink(settings.logFormat));
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
