/**
 * Runs measurements and prints their tables: each `scripts/bench/<name>.ts` exports a function
 * `bench`, which prints with `printTable` of `scripts/bench/lib/table.ts`. Figures are printed, not
 * asserted: they depend on the machine.
 */
import { parseArgs } from "node:util";
import { messageOf } from "../src/text/message_of.ts";
import { root } from "./deno_tools.ts";
import { supervise } from "./supervise.ts";

/** A module of `scripts/bench/`. */
interface BenchModule {
  readonly bench?: (options: { readonly against?: string | undefined }) => void | Promise<void>;
}

const names = [...Deno.readDirSync(`${root}/scripts/bench`)]
  .filter((entry) => entry.isFile && entry.name.endsWith(".ts"))
  .map((entry) => entry.name.slice(0, -".ts".length))
  .sort();

const help = `Usage: deno task bench [--against PLUGIN] [NAME]...

Measures and prints tables, all of them or the named ones: ${names.join(", ")}.
Needs root. Figures depend on the machine: compare those of one run.

  --against PLUGIN   another build of kuma-cni, for example of an earlier commit: "processes" calls
                     both turn by turn and prints the differences
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    options: { against: { type: "string" }, help: { type: "boolean", short: "h" } },
    allowPositionals: true,
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const unknown = positionals.find((name) => !names.includes(name));
  if (unknown !== undefined) {
    console.error(`Unknown measurement "${unknown}": expected one of ${names.join(", ")}`);
    return 1;
  }
  let failed = false;
  for (const name of positionals.length > 0 ? positionals : names) {
    const { bench }: BenchModule = await import(`./bench/${name}.ts`);
    try {
      if (bench === undefined) throw new TypeError(`scripts/bench/${name}.ts exports no "bench"`);
      await bench({ against: values.against });
    } catch (error) {
      failed = true;
      console.error(`\n${name}: ${messageOf(error)}`);
    }
  }
  return failed ? 1 : 0;
}

if (import.meta.main) await supervise(import.meta.url, main);
