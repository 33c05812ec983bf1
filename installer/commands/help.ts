/** How `--help` looks: commands first, wrapped, with what must be given marked. */
import type { Command, CommandUnknownOpts, Help, Option } from "@commander-js/extra-typings";

/** Columns beyond which a line of help is harder to read than a second one. */
const widest = 100;

/** Column at which what a term means stands; behind a longer term it stands below. */
const termColumn = 28;

/**
 * Gives a program and all commands that are added to it afterwards the layout of this project:
 * usage, description, commands, arguments, options.
 */
export function layOutHelp(program: Command): void {
  program.configureHelp({
    prepareContext({ helpWidth }) {
      this.helpWidth = Math.min(helpWidth ?? 80, widest);
    },
    padWidth: () => termColumn,
    formatItem,
    optionDescription,
    formatHelp,
  });
  program.configureOutput({
    outputError: (text, write) => write(text.replace(/^error: /, `${program.name()}: `)),
  });
}

/** A term and what it means, side by side, or one below the other when the term is long. */
function formatItem(term: string, column: number, text: string, helper: Help): string {
  const isShort = helper.displayWidth(term) + 2 <= column;
  const margin = isShort ? column + 2 : 8;
  const width = Math.max(40, (helper.helpWidth ?? 80) - margin);
  const lines = helper.boxWrap(text, width).split("\n");
  const indented = lines.join(`\n${" ".repeat(margin)}`);
  return isShort
    ? `  ${term.padEnd(column)}${indented}`
    : `  ${term}\n${" ".repeat(margin)}${indented}`;
}

/** An option's description with its choices and default, and whether it must be given. */
function optionDescription(option: Option): string {
  const { argChoices, defaultValue, description, mandatory } = option;
  // An empty list and a switch that is off are what anybody expects of an option not given.
  const isTold = defaultValue !== undefined && defaultValue !== false && defaultValue !== true &&
    !(Array.isArray(defaultValue) && defaultValue.length === 0);
  const remarks = [
    ...(mandatory ? ["required"] : []),
    ...(argChoices === undefined ? [] : [argChoices.join(", ")]),
    ...(isTold ? [`default: ${defaultValue}`] : []),
  ];
  return remarks.length === 0 ? description : `${description} (${remarks.join("; ")})`;
}

function formatHelp(command: CommandUnknownOpts, helper: Help): string {
  const paragraphs: string[][] = [
    [`${helper.styleTitle("Usage:")} ${helper.commandUsage(command)}`],
    [helper.boxWrap(helper.commandDescription(command), helper.helpWidth ?? 80)],
  ];
  const section = (title: string, items: [term: string, text: string][]) => {
    if (items.length === 0) return;
    // All of a section alike: below each other as soon as one term is too long for the column.
    const fits = items.every(([term]) => helper.displayWidth(term) + 2 <= termColumn);
    paragraphs.push([
      helper.styleTitle(title),
      ...items.map(([term, text]) => helper.formatItem(term, fits ? termColumn : 0, text, helper)),
    ]);
  };
  section(
    "Commands:",
    helper.visibleCommands(command).map((sub) => [sub.name(), helper.subcommandDescription(sub)]),
  );
  section(
    "Arguments:",
    helper.visibleArguments(command).map((argument) => [
      helper.argumentTerm(argument),
      helper.argumentDescription(argument),
    ]),
  );
  const groups = Map.groupBy(
    helper.visibleOptions(command),
    (option) => option.helpGroupHeading ?? "Options:",
  );
  for (const [title, options] of groups) {
    section(
      title,
      options.map((option) => [helper.optionTerm(option), helper.optionDescription(option)]),
    );
  }
  return paragraphs.map((lines) => lines.join("\n") + "\n").join("\n");
}
