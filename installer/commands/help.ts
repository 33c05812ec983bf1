/** How `--help` looks: commands first, wrapped, with what must be given marked. */
import type { Command, CommandUnknownOpts, Help, Option } from "@commander-js/extra-typings";

/** Columns beyond which a line of help is harder to read than a second one. */
const widest = 100;

/**
 * Gives a program and all commands that are added to it afterwards the layout of this project:
 * usage, description, commands, arguments, options.
 */
export function layOutHelp(program: Command): void {
  program.configureHelp({
    prepareContext({ helpWidth }) {
      this.helpWidth = Math.min(helpWidth ?? 80, widest);
    },
    optionDescription,
    formatHelp,
  });
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
  const width = helper.padWidth(command, helper);
  const item = (term: string, text: string) => helper.formatItem(term, width, text, helper);
  const paragraphs: string[][] = [
    [`${helper.styleTitle("Usage:")} ${helper.commandUsage(command)}`],
    [helper.boxWrap(helper.commandDescription(command), helper.helpWidth ?? 80)],
  ];
  const section = (title: string, items: string[]) => {
    if (items.length > 0) paragraphs.push([helper.styleTitle(title), ...items]);
  };
  section(
    "Commands:",
    helper.visibleCommands(command).map((sub) =>
      item(helper.subcommandTerm(sub), helper.subcommandDescription(sub))
    ),
  );
  section(
    "Arguments:",
    helper.visibleArguments(command).map((argument) =>
      item(helper.argumentTerm(argument), helper.argumentDescription(argument))
    ),
  );
  const groups = Map.groupBy(
    helper.visibleOptions(command),
    (option) => option.helpGroupHeading ?? "Options:",
  );
  for (const [title, options] of groups) {
    section(
      title,
      options.map((option) => item(helper.optionTerm(option), helper.optionDescription(option))),
    );
  }
  return paragraphs.map((lines) => lines.join("\n") + "\n").join("\n");
}
