/** `install-cni completion`: completion scripts for shells, made from the command line itself. */
import { Argument, type Command } from "@commander-js/extra-typings";

import { podNamesCommand } from "./pod_names.ts";

/** The command that runs when none is named. */
export const defaultCommand = "install";

/** A word that can stand on the command line, with what it means. */
export interface Word {
  readonly text: string;
  readonly help: string;
}

/** An option as a shell must know it. */
export interface OptionWord extends Word {
  /** Its short form, such as `-o`. */
  readonly short?: string;
  /** What its value is: none, one of these, a path, or any text. */
  readonly value: "none" | "path" | "text" | readonly string[];
}

/** A command with what can follow it. */
export interface CommandWord extends Word {
  readonly options: readonly OptionWord[];
  /** What its arguments are. */
  readonly operands: "none" | "path" | "pod" | readonly string[];
}

/** The command line as shells must know it: the program itself first, named by an empty text. */
export type CommandLine = readonly CommandWord[];

/** The shells that scripts can be made for. */
export const shells = ["bash", "zsh", "fish"] as const;

/** A shell that a script can be made for. */
export type Shell = (typeof shells)[number];

const examples = `
Examples:
  source <(install-cni completion bash)                                      this shell
  install-cni completion bash > /etc/bash_completion.d/install-cni           all shells
  install-cni completion zsh > "\${fpath[1]}/_install-cni"
  install-cni completion fish > ~/.config/fish/completions/install-cni.fish
`;

/** Adds the command. */
export function register(program: Command): void {
  program.command("completion")
    .description("Print a script that completes commands and options in a shell")
    .addArgument(new Argument("<shell>", "shell").choices(shells))
    .addHelpText("after", examples)
    .action((shell) => console.log(completionScript(commandLineOf(program), shell).trimEnd()));
}

/** Reads what shells must know from the command line's declaration. */
export function commandLineOf(program: Command): CommandLine {
  const visible = (program.createHelp().visibleCommands(program) as unknown as readonly Command[])
    .filter((command) => command.name() !== "help");
  const named = visible.map((command) => wordOf(command, command.name()));
  const names = named.map(({ text }) => text);
  const help = { text: "help", help: "Print the help of a command", options: [], operands: names };
  const commands = [...named, help];
  const bare = wordOf(program, "");
  // Options without a command are those of the one that runs by default.
  const preset = commands.find(({ text }) => text === defaultCommand)?.options ?? [];
  const known = new Set(bare.options.map(({ text }) => text));
  const options = [...bare.options, ...preset.filter(({ text }) => !known.has(text))];
  return [{ ...bare, options }, ...commands];
}

function wordOf(command: Command, text: string): CommandWord {
  const help = command.createHelp();
  const options = help.visibleOptions(command).flatMap((option): OptionWord[] => {
    const placeholder = /<(.*)>/.exec(option.flags)?.[1] ?? "";
    const value = option.argChoices ??
      (placeholder.includes("|") ? placeholder.split("|") : undefined) ??
      (!option.required && !option.optional
        ? "none"
        : /path|file|folder/.test(placeholder)
        ? "path"
        : "text");
    const short = option.short ?? undefined;
    return option.long === undefined || option.long === null ? [] : [{
      text: option.long,
      ...(short === undefined ? {} : { short }),
      help: firstSentence(option.description),
      value,
    }];
  });
  const [argument] = command.registeredArguments;
  const operands = argument === undefined
    ? "none"
    : argument.argChoices ?? (argument.name() === "pod" ? "pod" : "path");
  return { text, help: firstSentence(command.description()), options, operands };
}

function firstSentence(text: string): string {
  return text.split(/[:;(]| - /)[0]!.trim();
}

/** Makes a shell's completion script. */
export function completionScript(line: CommandLine, shell: Shell): string {
  switch (shell) {
    case "bash":
      return bash(line);
    case "zsh":
      return zsh(line);
    case "fish":
      return fish(line);
  }
}

/** In single quotes nothing means anything to a shell but the quote itself. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function bash(line: CommandLine): string {
  const commands = line.slice(1).map(({ text }) => text);
  const cases = line.map(({ text, options, operands }) => {
    const values = options.flatMap(({ text, short, value }) =>
      value === "none" ? [] : [
        `        ${short === undefined ? text : `${text}|${short}`}) ${
          value === "path"
            ? 'COMPREPLY=($(compgen -f -- "$word")); compopt -o filenames'
            : value === "text"
            ? "COMPREPLY=()"
            : `COMPREPLY=($(compgen -W ${quoted(value.join(" "))} -- "$word"))`
        }; return ;;`,
      ]
    );
    const words = text === "" ? commands : typeof operands === "string" ? [] : operands;
    return [
      `    ${quoted(text)})`,
      ...(values.length === 0 ? [] : ['      case "$previous" in', ...values, "      esac"]),
      `      options=${quoted(options.map(({ text }) => text).join(" "))}`,
      `      words=${quoted(words.join(" "))}`,
      `      files=${operands === "path" && text !== "" ? "yes" : ""}`,
      `      pods=${operands === "pod" ? "yes" : ""} ;;`,
    ].join("\n");
  });
  return `# Completion of install-cni for bash.
_install_cni() {
  local word=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} command='' i
  local options='' words='' files='' pods=''
  # The shell takes --option=value for three words.
  if [[ $word == = ]]; then word=''
  elif [[ $previous == = ]]; then previous=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "\${COMP_WORDS[i]}" in
      ${commands.join("|")}) command=\${COMP_WORDS[i]}; break ;;
    esac
  done
  case "$command" in
${cases.join("\n")}
  esac
  if [[ -n $pods && $word != -* ]]; then
    words=$(timeout 2 "\${COMP_WORDS[0]}" ${podNamesCommand} 2> /dev/null)
  fi
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  elif [[ -n $files ]]; then
    COMPREPLY=($(compgen -f -- "$word"))
    compopt -o filenames
  else
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  fi
}
complete -F _install_cni install-cni
`;
}

function zsh(line: CommandLine): string {
  const described = ({ text, help }: Word) =>
    quoted(`${text.replaceAll(":", "\\:")}:${help.replaceAll(":", "\\:")}`);
  const escaped = (help: string) => help.replaceAll(/[[\]:]/g, "\\$&");
  const specs = ({ options, operands }: CommandWord) =>
    [
      ...options.flatMap(({ text, short, help, value }) => {
        const action = value === "none"
          ? ""
          : value === "path"
          ? ":path:_files"
          : value === "text"
          ? ":value: "
          : `:value:(${value.join(" ")})`;
        const long = value === "none" ? text : `${text}=`;
        return [long, ...(short === undefined ? [] : [short])]
          .map((word) => quoted(`*${word}[${escaped(help)}]${action}`));
      }),
      ...(operands === "path"
        ? [quoted("*:file:_files")]
        : operands === "none"
        ? []
        : operands === "pod"
        ? [quoted("1:pod:_install_cni_pods")]
        : [quoted(`1:value:(${operands.join(" ")})`)]),
    ].join(" ");
  const [program, ...commands] = line;
  return `#compdef install-cni
# Completion of install-cni for zsh.
_install_cni_pods() {
  local -a pods=(\${(f)"$(timeout 2 $program ${podNamesCommand} 2> /dev/null)"})
  compadd -a pods
}
_install_cni() {
  local context state state_descr line program=\${(Q)words[1]}
  typeset -A opt_args
  _arguments -C ${specs({ ...program!, operands: "none" })} '1:command:->command' '*::rest:->rest'
  case $state in
    command)
      local -a commands=(${commands.map(described).join(" ")})
      _describe command commands ;;
    rest)
      case $words[1] in
${commands.map((c) => `        ${c.text}) _arguments ${specs(c)} ;;`).join("\n")}
      esac ;;
  esac
}
if [[ $funcstack[1] == _install_cni ]]; then
  _install_cni "$@"
else
  compdef _install_cni install-cni
fi
`;
}

const fishPods = `(timeout 2 (commandline -opc)[1] ${podNamesCommand} 2> /dev/null)`;

function fish(line: CommandLine): string {
  const commands = line.slice(1);
  const names = commands.map(({ text }) => text).join(" ");
  const lines = ["# Completion of install-cni for fish.", "complete -c install-cni -f"];
  for (const { text, help } of commands) {
    lines.push(
      `complete -c install-cni -n "not __fish_seen_subcommand_from ${names}" ` +
        `-a ${text} -d ${quoted(help)}`,
    );
  }
  for (const { text: command, options, operands } of line) {
    const condition = command === ""
      ? `not __fish_seen_subcommand_from ${names}`
      : `__fish_seen_subcommand_from ${command}`;
    const start = `complete -c install-cni -n "${condition}"`;
    for (const { text, short, help, value } of options) {
      const rest = value === "none"
        ? ""
        : value === "path"
        ? " -r -F"
        : value === "text"
        ? " -x"
        : ` -x -a ${quoted(value.join(" "))}`;
      const letter = short === undefined ? "" : ` -s ${short.slice(1)}`;
      lines.push(`${start}${letter} -l ${text.slice(2)} -d ${quoted(help)}${rest}`);
    }
    if (command === "" || operands === "none") continue;
    lines.push(
      operands === "path"
        ? `${start} -F`
        : operands === "pod"
        ? `${start} -a ${quoted(fishPods)}`
        : `${start} -a ${quoted(operands.join(" "))}`,
    );
  }
  return lines.join("\n") + "\n";
}
