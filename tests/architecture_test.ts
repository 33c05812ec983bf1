/**
 * The rooms of `docs/architecture.md`: what each module imports must stand in the table there, and
 * what stands there must be used.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { dirname, join } from "node:path/posix";
import { programs, sourcesOf } from "../scripts/build.ts";
import { specifiersOf } from "../scripts/sources.ts";

const root = new URL("..", import.meta.url).pathname;
const document = Deno.readTextFileSync(`${root}docs/architecture.md`);

/** An import of one module, by where it leads: a room or a package. */
interface Import {
  readonly file: string;
  readonly room: string;
  readonly target: string;
  readonly isPackage: boolean;
  readonly isTypeOnly: boolean;
}

/** A row of the table of rooms. */
interface Row {
  readonly values: readonly string[];
  readonly types: readonly string[];
  readonly packages: readonly string[];
}

/** Rows of the Markdown table that begins with these cells, without its head. */
function tableAfter(head: readonly string[]): string[][] {
  const lines = document.split("\n").map((line) =>
    line.startsWith("|") ? line.split("|").slice(1, -1).map((cell) => cell.trim()) : []
  );
  const start = lines.findIndex((cells) => head.every((text, i) => cells[i] === text));
  ok(start >= 0, `docs/architecture.md needs a table that begins with ${head.join(", ")}`);
  const length = lines.slice(start).findIndex((cells) => cells.length === 0);
  return lines.slice(start + 2, start + length);
}

function items(cell: string | undefined): string[] {
  return (cell ?? "").split(",").map((item) => item.trim()).filter((item) => item !== "");
}

function rooms(): Map<string, Row> {
  return new Map(
    tableAfter(["room", "holds", "may import"]).map(([room, , values, types, packages]) => [
      (room ?? "").replaceAll("`", ""),
      { values: items(values), types: items(types), packages: items(packages) },
    ]),
  );
}

/** The room of a module: the longest name in the table that its path begins with. */
function roomOf(path: string, names: Iterable<string>): string {
  const fitting = [...names].filter((name) => path === name || path.startsWith(`${name}/`));
  return fitting.sort((a, b) => b.length - a.length)[0] ?? "no room";
}

function* modulesBelow(folder: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(`${root}${folder}`)) {
    const path = `${folder}/${name}`;
    if (isDirectory) yield* modulesBelow(path);
    else if (path.endsWith(".ts") && !path.endsWith(".d.ts")) yield path;
  }
}

function importsOf(file: string, names: readonly string[]): Import[] {
  const room = roomOf(file, names);
  return specifiersOf(Deno.readTextFileSync(`${root}${file}`)).flatMap((found): Import[] => {
    const { specifier, isTypeOnly } = found;
    if (specifier.startsWith("node:")) return [];
    const isPackage = !specifier.startsWith(".");
    const target = isPackage ? specifier : roomOf(join(dirname(file), specifier), names);
    return target === room ? [] : [{ file, room, target, isPackage, isTypeOnly }];
  });
}

function isAllowed({ target, isPackage, isTypeOnly }: Import, row: Row): boolean {
  const lists = isPackage ? [row.packages] : isTypeOnly ? [row.values, row.types] : [row.values];
  return lists.some((list) => list.includes(target) || list.includes("everything"));
}

const table = rooms();
const files = [
  "main.ts",
  ...["src", "installer", "scripts", "tests"].flatMap((f) => [
    ...modulesBelow(f),
  ]),
];
const imports = files.flatMap((file) => importsOf(file, [...table.keys()]));

Deno.test("every form of import is seen", () => {
  const text = [
    `import { a } from "./a.ts";`,
    `import type { b } from "./b.ts";`,
    `import {\n  c,\n  type d,\n} from "./c.ts";`,
    `export { e } from "./e.ts";`,
    `export * from "./f.ts";`,
    `export type { g } from "./g.ts";`,
    `import "./h.ts";`,
    `  const { i } = await import("./i.ts");`,
    `import j, * as k from "./j.ts";`,
    `const text = 'not an import from "./z.ts"';`,
  ].join("\n");
  deepEqual(
    specifiersOf(text).map(({ specifier, isTypeOnly }) =>
      `${specifier}${isTypeOnly ? " type" : ""}`
    ),
    ["a", "b type", "c", "e", "f", "g type", "h", "i", "j"].map((item) =>
      item.replace(/^./, "./$&.ts")
    ),
  );
});

Deno.test("every module stands in a room of docs/architecture.md and imports what that may", () => {
  ok(imports.length > 300, `only ${imports.length} imports were found`);
  const wrong = imports.flatMap((found) => {
    const row = table.get(found.room);
    if (row !== undefined && isAllowed(found, row)) return [];
    return [`${found.file}: ${found.room} may not import ${found.target}`];
  });
  deepEqual(wrong, []);
});

Deno.test("what is built contains and needs no module of the tests", () => {
  for (const name of ["kuma-cni", "install-cni"] as const) {
    const sources = sourcesOf(name);
    for (const expected of [programs[name].entry, "src/redirect/compile.ts", "deno.lock"]) {
      ok(sources.includes(expected), `${name}: ${expected} is missing`);
    }
    for (const expected of ["build.ts", "bundle.ts", "denort.ts", "compiled_plugin/script.ts"]) {
      ok(sources.includes(`scripts/${expected}`), `${name}: scripts/${expected} is missing`);
    }
    deepEqual(sources.filter((path) => path.startsWith("tests/")), []);
  }
});

Deno.test("the table of docs/architecture.md allows nothing that nobody needs", () => {
  const unused = [...table].flatMap(([room, { values, types, packages }]) => {
    const own = imports.filter((found) => found.room === room);
    const needs = (target: string, typeOnly: boolean) =>
      own.some((found) => found.target === target && found.isTypeOnly === typeOnly);
    return [
      ...values.filter((target) => target !== "everything" && !needs(target, false)),
      ...types.filter((target) => !needs(target, true)),
      ...packages.filter((target) => target !== "everything" && !needs(target, false)),
    ].map((target) => `${room}: ${target}`);
  });
  deepEqual(unused, []);
});

Deno.test("docs/architecture.md lists the dependencies of deno.json", () => {
  const { imports } = JSON.parse(Deno.readTextFileSync(`${root}deno.json`));
  const declared = Object.entries(imports as Record<string, string>).map(([name, specifier]) => [
    name,
    /@(\d[^/]*)/.exec(specifier)?.[1],
  ]);
  const documented = tableAfter(["package", "version"]).map(([name, version]) => [
    (name ?? "").replaceAll("`", ""),
    version,
  ]);
  deepEqual(documented.sort(), declared.sort());
  equal(new Set(documented.map(([name]) => name)).size, documented.length);
});
