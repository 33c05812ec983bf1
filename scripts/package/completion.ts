/** Completions of install-cni for shells, from the command line's own declarations. */
import type { CommandFacts, OptionFacts } from "./command_tree.ts";

/** Shells that there is a completion for. */
export const shells = ["bash", "zsh", "fish"] as const;

/** One of the shells. */
export type Shell = typeof shells[number];

/** Where each shell looks for a completion, below `/usr/share`. */
export const completionPaths: Readonly<Record<Shell, string>> = {
  bash: "bash-completion/completions/install-cni",
  zsh: "zsh/site-functions/_install-cni",
  fish: "fish/vendor_completions.d/install-cni.fish",
};

/**
 * Writes the completion for a shell: commands, then the options of the command that is there, then
 * the choices of the option before; else files.
 *
 * @param commands The program and its commands.
 */
export function completion(shell: Shell, commands: readonly CommandFacts[]): string {
  return { bash, zsh, fish }[shell](commands);
}

function bash(commands: readonly CommandFacts[]): string {
  const [program, ...others] = commands;
  const choices = commands.flatMap(({ name, options }) =>
    options.filter((option) => option.takesValue).map((option) => {
      const patterns = option.names.map((each) => `"${name} ${each}"`).join(" | ");
      const words = option.choices.length === 0 ? "files=1" : `words="${option.choices.join(" ")}"`;
      return `    ${patterns}) ${words} ;;`;
    })
  );
  return `# bash completion for install-cni
_install_cni() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  local command= words= files= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      ${others.map(({ name }) => name).join(" | ")}) command=\${COMP_WORDS[i]} && break ;;
    esac
  done
  case "$command $previous" in
${choices.join("\n")}
  esac
  if [[ -z $words && -z $files ]]; then
    case $command in
      "") words="${[...others.map(({ name }) => name), ...optionNames(program!)].join(" ")}" ;;
${
    others.map((command) => `      ${command.name}) words="${optionNames(command).join(" ")}" ;;`)
      .join("\n")
  }
    esac
    [[ -n $command && $current != -* ]] && files=1
  fi
  if [[ -n $files ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
}
complete -F _install_cni install-cni
`;
}

function zsh(commands: readonly CommandFacts[]): string {
  const [program, ...others] = commands;
  const specification = (option: OptionFacts) => {
    const value = option.choices.length > 0
      ? `:value:(${option.choices.join(" ")})`
      : option.takesValue
      ? ":value:_files"
      : "";
    return option.names.map((name) => quoted(`${name}[${inBrackets(option.description)}]${value}`))
      .join(" ");
  };
  const all = (command: CommandFacts) => command.options.map(specification).join(" \\\n        ");
  return `#compdef install-cni
_install_cni() {
  local -a commands
  local context state line
  commands=(
${others.map(({ name, description }) => `    ${quoted(`${name}:${description}`)}`).join("\n")}
  )
  case \${words[2]} in
${
    others.map((command) =>
      `    ${command.name})
      (( CURRENT-- )); shift words
      _arguments ${all(command)} '*:input:_files' ;;`
    ).join("\n")
  }
    *)
      _arguments ${all(program!)} '1: :->command'
      [[ $state == command ]] && _describe command commands ;;
  esac
}
_install_cni "$@"
`;
}

function fish(commands: readonly CommandFacts[]): string {
  const [program, ...others] = commands;
  const names = others.map(({ name }) => name).join(" ");
  const line = (condition: string, option: OptionFacts) =>
    [
      `complete -c install-cni -n ${quoted(condition)}`,
      ...option.names.map((name) =>
        name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`
      ),
      ...(option.choices.length > 0
        ? [`-x -a ${quoted(option.choices.join(" "))}`]
        : option.takesValue
        ? ["-r"]
        : []),
      `-d ${quoted(option.description)}`,
    ].join(" ");
  const none = `not __fish_seen_subcommand_from ${names}`;
  return [
    "# fish completion for install-cni",
    ...others.map(({ name, description }) =>
      `complete -c install-cni -f -n ${quoted(none)} -a ${name} -d ${quoted(description)}`
    ),
    ...program!.options.map((option) => line(none, option)),
    ...others.flatMap(({ name, options }) =>
      options.map((option) => line(`__fish_seen_subcommand_from ${name}`, option))
    ),
    "",
  ].join("\n");
}

function optionNames({ options }: CommandFacts): string[] {
  return options.flatMap(({ names }) => names);
}

/** Text in single quotes, for all three shells. */
function quoted(text: string): string {
  return `'${text.replaceAll("\n", " ").replaceAll("'", "’")}'`;
}

function inBrackets(text: string): string {
  return text.replaceAll(/[[\]:\\]/g, "\\$&");
}
