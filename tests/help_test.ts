/** What `--help` shows, and how a mistyped command or option is answered. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { commandLine } from "../installer/main.ts";

/** Help of the program, or of one of its commands. */
function helpOf(name?: string): string {
  const program = commandLine();
  const command = program.commands.find((command) => command.name() === name);
  return (command ?? program).helpInformation();
}

async function run(...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", new URL("../installer/main.ts", import.meta.url).pathname]
      .concat(args),
    clearEnv: true,
    env: { PATH: Deno.env.get("PATH") ?? "", HOME: Deno.env.get("HOME") ?? "", NO_COLOR: "1" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("help names the commands first and wraps its lines", () => {
  const help = helpOf();
  match(help, /^Usage: .*\n\n.*\n\nCommands:\n {2}install /);
  for (const { name } of commandLine().commands.map((c) => ({ name: c.name() }))) {
    for (const line of helpOf(name).split("\n")) {
      // A word, such as a path, may be longer than a line.
      ok(line.length <= 100 || !line.trim().includes(" "), `${name}: ${line}`);
    }
    ok(!/default: (true|false|\[\]|$)/m.test(helpOf(name).replace(/Settings:[^]*/, "")), name);
  }
});

Deno.test("help marks what must be given", () => {
  match(helpOf("explain"), /--from <sender> [^-]*required/);
  match(helpOf("apply"), /--netns <path> [^-]*required/);
  ok(!helpOf("check").includes("required"));
});

Deno.test("help of a command names the settings that matter to it, and the command takes all", async () => {
  const settings = (name: string): readonly string[] =>
    helpOf(name).match(/--[a-z-]+(?= <)/g) ?? [];
  ok(settings("install").includes("--health-port"));
  ok(!settings("check").includes("--health-port"));
  ok(settings("check").includes("--cni-conf-name"));
  ok(!settings("uninstall").includes("--cni-conf-name"));
  ok(settings("uninstall").includes("--mounted-cni-bin-dir"));
  const { stderr } = await run("uninstall", "--health-port", "none");
  match(stderr, /HEALTH_PORT is "none"/, "the option is known, so its value is what is refused");
});

Deno.test("a mistyped command or option is answered with the nearest one", async () => {
  const command = await run("chek");
  equal(command.code, 1);
  match(command.stderr, /^install-cni: Unknown command "chek"\. Did you mean "check"\?\n/);
  const option = await run("check", "--nets", "x");
  equal(option.code, 1);
  match(option.stderr, /^install-cni: unknown option '--nets'\n\(Did you mean --netns\?\)/);
  const none = await run("xyzzy");
  match(none.stderr, /^install-cni: Unknown command "xyzzy"\nCommands: install, check, /);
});

Deno.test("help is there under all its names", async () => {
  const [first, ...others] = await Promise.all([run("--help"), run("-h"), run("help")]);
  equal(first!.code, 0);
  for (const other of others) deepEqual(other, first);
  equal((await run("help", "rules")).stdout, (await run("rules", "--help")).stdout);
});
