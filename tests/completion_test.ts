/** Completion scripts, run by the shells they are for. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { commandLineOf, completionScript, type Shell } from "../installer/commands/completion.ts";
import { commandLine } from "../installer/main.ts";

const line = commandLineOf(commandLine());

/** Lets bash complete a command line, the cursor being behind its last word. */
async function completed(words: readonly string[]): Promise<string[]> {
  const script = `${completionScript(line, "bash")}
compopt() { :; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_install_cni
printf '%s\\n' "\${COMPREPLY[@]}"
`;
  const { stdout, stderr } = await new Deno.Command("bash", {
    args: ["--norc", "-uc", script, "bash", "install-cni", ...words],
    cwd: new URL("conflists", import.meta.url),
  }).output();
  equal(new TextDecoder().decode(stderr), "");
  return new TextDecoder().decode(stdout).split("\n").filter((word) => word !== "");
}

Deno.test("bash completes commands, options, their values and files", async () => {
  const commands = commandLine().commands.map((command) => command.name());
  deepEqual(await completed([""]), commands);
  deepEqual(await completed(["ru"]), ["rules"]);
  deepEqual(await completed(["rules", "-", "--fam"]), ["--family"]);
  deepEqual(await completed(["rules", "-", "--family", "ipv"]), ["ipv4", "ipv6"]);
  deepEqual(await completed(["completion", "f"]), ["fish"]);
  deepEqual(await completed(["install", "--chained-cni-plugin", ""]), ["true", "false"]);
  deepEqual(await completed(["--cni-net-d"]), ["--cni-net-dir"]);
  deepEqual(await completed(["doctor", "--bun"]), ["--bundle"]);
  deepEqual(await completed(["doctor", "-o", ""]), []);
  deepEqual(await completed(["doctor", "--output", "w"]), ["wide"]);
  deepEqual(await completed(["explain", "-", "--output", "s"]), ["svg"]);
  deepEqual(await completed(["rules", "-", "--output", "m"]), ["mermaid"]);
  // A pod is no file.
  deepEqual(await completed(["doctor", ""]), []);
  deepEqual(await completed(["nonsense-"]), []);
  const [first] = Array.from(Deno.readDirSync(new URL("conflists", import.meta.url)), (e) => e.name)
    .sort();
  ok((await completed(["check", "--netns", first!.slice(0, 4)])).includes(first!));
  ok((await completed(["rules", first!.slice(0, 4)])).includes(first!));
});

Deno.test("scripts name every command and visible option", () => {
  for (const shell of ["bash", "zsh", "fish"] satisfies Shell[]) {
    const script = completionScript(line, shell);
    for (const { text, options } of line) {
      ok(script.includes(text), `${shell}: ${text}`);
      for (const option of options) {
        const word = shell === "fish" ? `-l ${option.text.slice(2)} ` : option.text;
        ok(script.includes(word), `${shell}: ${text} ${option.text}`);
      }
    }
  }
});

Deno.test("fish completes commands, options and their values", async () => {
  // It keeps files of its own there.
  const home = await Deno.makeTempDir();
  const ask = async (text: string) => {
    const script = completionScript(line, "fish") + `complete -C 'install-cni ${text}'\n`;
    const { stdout, stderr } = await new Deno.Command("fish", {
      args: ["--no-config", "--command", script],
      env: { HOME: home },
    }).output();
    equal(new TextDecoder().decode(stderr), "");
    return new TextDecoder().decode(stdout).trim().split("\n").map((line) => line.split("\t"));
  };
  try {
    deepEqual(await ask("ru"), [[
      "rules",
      "Print the decision about a pod, its effective settings and its rules",
    ]]);
    deepEqual((await ask("rules - --fam")).map(([word]) => word), ["--family"]);
    deepEqual((await ask("rules - --family ipv")).map(([word]) => word), ["ipv4", "ipv6"]);
    deepEqual((await ask("completion f")).map(([word]) => word), ["fish"]);
    deepEqual((await ask("doctor --bun")).map(([word]) => word), ["--bundle"]);
    deepEqual((await ask("explain - --output m")).map(([word]) => word), ["mermaid"]);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});

Deno.test("zsh completes commands, options and their values", async () => {
  // A terminal is needed to complete anything: zsh's own, in which keys are typed.
  const driver = `
zmodload zsh/zpty
zpty shell zsh --no-rcs -i
zpty -w shell "autoload -Uz compinit && compinit -D -u; source $1; bindkey '^I' list-choices; print LOAD'ED'"
zpty -r -m shell out '*LOADED*'
ask() {
  zpty -w -n shell "$1"$'\\t'
  zpty -r -m shell out "*$2*" && print -r -- "completed: $1"
  zpty -w shell $'\\x15'"print EN'D'"
  zpty -r -m shell out '*END*'
}
ask 'install-cni ru' 'rules*Print the decision'
ask 'install-cni rules - --fam' '--family*rules of one IP family'
ask 'install-cni rules - --family ' 'ipv4*ipv6'
ask 'install-cni doctor --bun' '--bundle*support bundle'
ask 'install-cni explain - --output ' 'json*mermaid*svg'
ask 'install-cni completion ' 'bash*fish*zsh'
zpty -d shell
`;
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, completionScript(line, "zsh"));
    const { stdout, stderr } = await new Deno.Command("timeout", {
      args: ["60", "zsh", "--no-rcs", "-c", driver, "zsh", file],
      env: { HOME: "/nonexistent", TERM: "dumb" },
    }).output();
    equal(new TextDecoder().decode(stderr), "");
    deepEqual(
      new TextDecoder().decode(stdout).trimEnd().split("\n").map((text) => text.trimEnd()),
      [
        "completed: install-cni ru",
        "completed: install-cni rules - --fam",
        "completed: install-cni rules - --family",
        "completed: install-cni doctor --bun",
        "completed: install-cni explain - --output",
        "completed: install-cni completion",
      ],
    );
  } finally {
    await Deno.remove(file);
  }
});
