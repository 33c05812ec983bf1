/** Manual pages in the format of man(7), from the command line's own declarations. */
import { VERSION } from "../../src/version.ts";
import type { CommandFacts, OptionFacts } from "./command_tree.ts";

/**
 * Writes the page `install-cni(8)`.
 *
 * @param commands The program and its commands.
 * @returns Text for `man`.
 */
export function manualPage(commands: readonly CommandFacts[]): string {
  const [program, ...others] = commands;
  if (program === undefined) throw new TypeError("A manual page needs a program");
  return [
    `.TH INSTALL\\-CNI 8 "" "kuma\\-cni ${escaped(VERSION)}" "System Administration"`,
    ".SH NAME",
    `install\\-cni \\- ${escaped(lowered(program.description))}`,
    ".SH SYNOPSIS",
    ...commands.flatMap(({ usage }) => [`.B ${escaped(usage)}`, ".br"]),
    ".SH DESCRIPTION",
    `${
      paragraph(program.description)
    }. Without a command it installs and stays, as in a DaemonSet.`,
    "Each option has an environment variable, which the description names.",
    ".SH OPTIONS",
    ...program.options.flatMap(optionLines),
    ".SH COMMANDS",
    ...others.flatMap((command) => [
      `.SS ${escaped(command.name)}`,
      `${paragraph(command.description)}.`,
      ...command.arguments.flatMap(({ name, description }) => [
        ".TP",
        `.I ${escaped(name)}`,
        paragraph(description),
      ]),
      ...command.options.flatMap(optionLines),
    ]),
    ".SH SEE ALSO",
    "The documents of kuma\\-cni: docs/installer.md has exit codes and files, docs/operations.md what to",
    "do when pods do not start.",
    "",
  ].join("\n");
}

function optionLines({ flags, description }: OptionFacts): string[] {
  return [".TP", `.B ${escaped(flags)}`, paragraph(description)];
}

/** A line of text that cannot be taken for a request of the format. */
function paragraph(text: string): string {
  return escaped(text.replaceAll("\n", " ")).replace(/^([.'])/, "\\&$1");
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-");
}

function lowered(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1);
}
