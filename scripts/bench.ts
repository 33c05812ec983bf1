/**
 * Runs measurements and prints their tables: each `scripts/bench/<name>.ts` exports a function
 * `bench`, which prints with `printTable` of `scripts/bench/lib/table.ts`. Figures are printed, not
 * asserted: they depend on the machine.
 */
import { root } from "./build.ts";

const help = `Usage: deno task bench [NAME]...

Measures and prints, all of them or the named ones:
`;

/** A module of `scripts/bench/`. */
interface BenchModule {
  readonly bench?: () => void | Promise<void>;
}

const names = [...Deno.readDirSync(`${root}/scripts/bench`)]
  .filter((entry) => entry.isFile && entry.name.endsWith(".ts"))
  .map((entry) => entry.name.slice(0, -".ts".length))
  .sort();

if (Deno.args.includes("--help") || Deno.args.includes("-h")) {
  console.log(help + names.map((name) => `  ${name}`).join("\n"));
  Deno.exit(0);
}
const unknown = Deno.args.find((name) => !names.includes(name));
if (unknown !== undefined) {
  console.error(`Unknown measurement "${unknown}"; wanted one of ${names.join(", ")}`);
  Deno.exit(1);
}
let failed = false;
for (const name of Deno.args.length > 0 ? Deno.args : names) {
  const { bench }: BenchModule = await import(`./bench/${name}.ts`);
  try {
    if (bench === undefined) throw new TypeError(`scripts/bench/${name}.ts exports no "bench"`);
    await bench();
  } catch (error) {
    failed = true;
    console.error(`\n${name}: ${error instanceof Error ? error.message : error}`);
  }
}
Deno.exit(failed ? 1 : 0);
