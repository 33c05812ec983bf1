/** Completion scripts, run by the shells they are for. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { commandLineOf, completionScript, type Shell } from "../installer/commands/completion.ts";
import { commandLine } from "../installer/main.ts";
import { DoctorBed } from "./support/doctor_bed.ts";
import "./support/load_libc.ts";

const line = commandLineOf(commandLine());
/** The words of the first place: all commands, and the help. */
const commands = line.slice(1).map(({ text }) => text);

/** A folder with a program that knows two pods, as the real one does on a node. */
function nodeWithPods(): { readonly path: string; [Symbol.dispose](): void } {
  const path = Deno.makeTempDirSync();
  const text = '#!/bin/sh\n[ "$*" = pod-names ] && printf "shop/web-0\\nshop/web-1\\n"\n';
  Deno.writeTextFileSync(`${path}/install-cni`, text, { mode: 0o755 });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

/** Lets bash complete a command line, the cursor being behind its last word. */
async function completed(words: readonly string[], path = "/nonexistent"): Promise<string[]> {
  const script = `${completionScript(line, "bash")}
compopt() { :; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_install_cni
printf '%s\\n' "\${COMPREPLY[@]}"
`;
  const { stdout, stderr } = await new Deno.Command("bash", {
    args: ["--norc", "-uc", script, "bash", "install-cni", ...words],
    env: { PATH: `${path}:/usr/bin:/bin` },
    cwd: new URL("conflists", import.meta.url),
  }).output();
  equal(new TextDecoder().decode(stderr), "");
  return new TextDecoder().decode(stdout).split("\n").filter((word) => word !== "");
}

Deno.test("bash completes commands, options, their values and files", async () => {
  deepEqual(await completed([""]), commands);
  ok(commands.includes("help") && !commands.includes("pod-names"));
  deepEqual(await completed(["help", "doc"]), ["doctor"]);
  deepEqual(await completed(["ru"]), ["rules"]);
  deepEqual(await completed(["rules", "-", "--fam"]), ["--family"]);
  deepEqual(await completed(["rules", "-", "--family", "ipv"]), ["ipv4", "ipv6"]);
  deepEqual(await completed(["completion", "f"]), ["fish"]);
  deepEqual(await completed(["install", "--chained-cni-plugin", ""]), ["true", "false"]);
  deepEqual(await completed(["--cni-net-d"]), ["--cni-net-dir"]);
  deepEqual(await completed(["doctor", "--bun"]), ["--bundle"]);
  deepEqual(await completed(["doctor", "-o", "w"]), ["wide"]);
  // So does bash split `--output=w`, and `--output=`.
  deepEqual(await completed(["doctor", "--output", "=", "w"]), ["wide"]);
  deepEqual(await completed(["rules", "-", "--family", "="]), ["ipv4", "ipv6"]);
  deepEqual(await completed(["doctor", "--output", "w"]), ["wide"]);
  deepEqual(await completed(["explain", "-", "--output", "s"]), ["svg"]);
  deepEqual(await completed(["rules", "-", "--output", "m"]), ["mermaid"]);
  // A pod is no file, and is known on its node alone.
  deepEqual(await completed(["doctor", ""]), []);
  using node = nodeWithPods();
  deepEqual(await completed(["doctor", "shop/"], node.path), ["shop/web-0", "shop/web-1"]);
  deepEqual(await completed(["pods", "-o", "wide", "shop/web-1"], node.path), ["shop/web-1"]);
  deepEqual(await completed(["rules", "sho"], node.path), []);
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
      for (const { short, text: long } of options) {
        // No shell is told of one form alone.
        if (short !== undefined) {
          const letter = shell === "fish" ? `-s ${short.slice(1)} -l ${long.slice(2)} ` : short;
          ok(shell === "bash" || script.includes(letter), `${shell}: ${text} ${short}`);
        }
        const option = { text: long };
        const word = shell === "fish" ? `-l ${option.text.slice(2)} ` : option.text;
        ok(script.includes(word), `${shell}: ${text} ${option.text}`);
      }
    }
  }
});

Deno.test("fish completes commands, options and their values", async () => {
  // It keeps files of its own there.
  const home = await Deno.makeTempDir();
  using node = nodeWithPods();
  const ask = async (text: string) => {
    const script = completionScript(line, "fish") + `complete -C 'install-cni ${text}'\n`;
    const { stdout, stderr } = await new Deno.Command("fish", {
      args: ["--no-config", "--command", script],
      env: { HOME: home, PATH: `${node.path}:/usr/bin:/bin` },
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
    deepEqual((await ask("doctor -o wi")).map(([word]) => word), ["wide"]);
    deepEqual((await ask("doctor --output=wi")).map(([word]) => word), ["--output=wide"]);
    deepEqual((await ask("help doc")).map(([word]) => word), ["doctor"]);
    deepEqual((await ask("doctor shop/")).map(([word]) => word), ["shop/web-0", "shop/web-1"]);
    deepEqual((await ask("pods shop/web-1")).map(([word]) => word), ["shop/web-1"]);
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
ask 'install-cni doctor -o ' 'json*wide'
ask 'install-cni doctor --output=' 'json*wide'
ask 'install-cni help doc' 'doctor'
ask 'install-cni doctor ' 'shop/web-0*shop/web-1'
ask 'install-cni pods shop/' 'shop/web-0*shop/web-1'
zpty -d shell
`;
  using node = nodeWithPods();
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, completionScript(line, "zsh"));
    const { stdout, stderr } = await new Deno.Command("timeout", {
      args: ["60", "zsh", "--no-rcs", "-c", driver, "zsh", file],
      env: { HOME: "/nonexistent", TERM: "dumb", PATH: `${node.path}:/usr/bin:/bin` },
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
        "completed: install-cni doctor -o",
        "completed: install-cni doctor --output=",
        "completed: install-cni help doc",
        "completed: install-cni doctor",
        "completed: install-cni pods shop/",
      ],
    );
  } finally {
    await Deno.remove(file);
  }
});

/** Each option behind its command, without its last letter, and the option. */
const begun = line.flatMap(({ text, options }) =>
  options.map(({ text: option }) => ({ words: [text, option.slice(0, -1)], option }))
);

Deno.test("bash and fish complete each option of each command", async () => {
  const bash = `${completionScript(line, "bash")}
compopt() { :; }
while read -r -a words; do
  COMP_WORDS=(install-cni "\${words[@]}") COMP_CWORD=\${#words[@]} COMPREPLY=()
  _install_cni
  echo "\${COMPREPLY[@]}"
done`;
  const fish = `${completionScript(line, "fish")}
while read text
  echo (complete -C "install-cni $text" | string replace -r '\t.*' '')
end`;
  const home = await Deno.makeTempDir();
  const input = `${home}/input`;
  await Deno.writeTextFile(
    input,
    begun.map(({ words }) => `${words.join(" ").trimStart()}\n`).join(""),
  );
  try {
    for (const [shell, ...args] of [["bash", "-uc", bash], ["fish", "--no-config", "-c", fish]]) {
      const { stdout, stderr } = await new Deno.Command("sh", {
        args: ["-c", 'shell=$1; shift; exec "$shell" "$@" < "$0"', input, shell!, ...args],
        env: { HOME: home, PATH: "/usr/bin:/bin" },
      }).output();
      equal(new TextDecoder().decode(stderr), "");
      const answers = new TextDecoder().decode(stdout).trimEnd().split("\n");
      const missing = begun.filter(({ option }, i) => !answers[i]?.split(" ").includes(option));
      deepEqual(missing, [], shell);
    }
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});

Deno.test("completion is told of the node's pods, by names that mean nothing to a shell", async () => {
  await using bed = await DoctorBed.make();
  bed.cache("shop", "web-0", true);
  bed.cache("shop", "web-1", false);
  bed.cache("shop", "$(reboot)", true);
  bed.cache("a b", "web-2", true);
  // It asks nobody.
  bed.api.close();
  const { code, stdout, stderr } = await bed.host.run(["pod-names"], bed.environment);
  deepEqual([code, stdout, stderr], [0, "shop/web-0\nshop/web-1\n", ""]);
});
