/** Runs the checks that need no test: types, lint and format. */
import { root } from "./deno_tools.ts";
import { supervise } from "./supervise.ts";

const help = `Usage: deno task check

Checks types, lint and format of all sources; .ci/run does the same before it runs the tests.
`;

/** What is checked, as arguments of Deno. */
const checks: readonly (readonly string[])[] = [
  ["check", "main.ts", "src", "installer", "tests", "scripts"],
  ["lint"],
  ["fmt", "--check"],
];

async function main(): Promise<number> {
  if (Deno.args.includes("--help") || Deno.args.includes("-h")) {
    console.log(help);
    return 0;
  }
  for (const args of checks) {
    const child = new Deno.Command(Deno.execPath(), { args: [...args], cwd: root }).spawn();
    const { code } = await child.status;
    if (code !== 0) return code;
  }
  return 0;
}

if (import.meta.main) await supervise(import.meta.url, main);
