/** The command line of install-cni as data, for the manual page: what commander knows. */
import type { Command, CommandUnknownOpts } from "@commander-js/extra-typings";
import { commandLine } from "../../installer/main.ts";

/** An option of a command. */
export interface OptionFacts {
  /** As in help: `-h, --help`, `--from <sender>`. */
  readonly flags: string;
  readonly description: string;
}

/** A command. */
export interface CommandFacts {
  /** Empty for the program itself. */
  readonly name: string;
  readonly usage: string;
  readonly description: string;
  readonly options: readonly OptionFacts[];
  readonly arguments: readonly { readonly name: string; readonly description: string }[];
}

/** The program itself, then its commands, in the order of help; hidden ones are left out. */
export function commandFacts(
  program: Command | CommandUnknownOpts = commandLine(),
): CommandFacts[] {
  const help = program.createHelp();
  const commands = help.visibleCommands(program as never)
    .filter((command) => command.name() !== "help");
  return [
    factsOf(program as CommandUnknownOpts, ""),
    ...commands.map((command) => factsOf(command as CommandUnknownOpts, command.name())),
  ];
}

function factsOf(command: CommandUnknownOpts, name: string): CommandFacts {
  const help = command.createHelp();
  return {
    name,
    usage: help.commandUsage(command as never),
    description: command.description(),
    options: help.visibleOptions(command as never).map((option) => ({
      flags: option.flags,
      description: help.optionDescription(option),
    })),
    arguments: help.visibleArguments(command as never).map((argument) => ({
      name: argument.name(),
      description: help.argumentDescription(argument),
    })),
  };
}
