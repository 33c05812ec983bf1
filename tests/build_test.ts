import { deepEqual, equal, match, notEqual, throws } from "node:assert/strict";
import { withRepeatableNames } from "../scripts/bundle.ts";
import { compileModule, root } from "../scripts/build.ts";
import { packed, PackError } from "../scripts/packs.ts";
import { findDenort } from "../scripts/denort.ts";
import { sha256 } from "../scripts/sha256.ts";

/** As the bundler writes modules where Deno keeps packages in `cache`, with names by `names`. */
function bundled(cache: string, names: readonly [string, string, string]): Map<string, string> {
  const [a, b, lazy] = names;
  return new Map([
    ["main.js", `import { x } from "./chunk-${a}.js";\nimport("./lazy-${lazy}.js");\n`],
    [`chunk-${a}.js`, `import "./chunk-${b}.js";\n// ${cache}/yaml/1.0.0/x.js\nx();\n`],
    [`chunk-${b}.js`, `// src/a.ts\nfoo("// /npm/h/ kept");\n`],
    [`lazy-${lazy}.js`, `var y = x({\n  "${cache}/y/1.0.0/y.js"(exports) {\n`],
  ]);
}

Deno.test("names and comments of a bundle do not depend on the machine", () => {
  const here = bundled("../../root/.cache/deno/npm/registry.example", [
    "AAAAAAAA",
    "BBBBBBBB",
    "CCCCCCCC",
  ]);
  const there = bundled("../home/x/npm/mirror", ["99999999", "22222222", "AAAAAAAA"]);
  const result = withRepeatableNames(here);
  deepEqual(new Map([...result].sort()), new Map([...withRepeatableNames(there)].sort()));
  equal(result.size, 4);
  const main = result.get("main.js") ?? "";
  const imported = /"\.\/(chunk-\d\.js)"/.exec(main)?.[1] ?? "";
  match(result.get(imported) ?? "", /^\/\/ npm:yaml\/1\.0\.0\/x\.js$/m);
  match(result.get("lazy-2.js") ?? "", /^ {2}"npm:y\/1\.0\.0\/y\.js"\(exports\) \{$/m);
  match([...result.values()].join(), /foo\("\/\/ \/npm\/h\/ kept"\)/);
});

Deno.test("a pack has what is needed together, and what few calls need does not cut it up", () => {
  const modules = new Map([
    ["main.js", `import{a}from"./chunk-0.js";a();import("./look-4.js");import("./rare-5.js");`],
    ["chunk-0.js", `var a=()=>import("./work-6.js");export{a};`],
    ["chunk-1.js", `import{a}from"./chunk-0.js";export{a as b};`],
    ["chunk-2.js", `var c=1;export{c};`],
    ["chunk-3.js", `var d=1;export{d};`],
    ["look-4.js", `import{b}from"./chunk-1.js";import{c}from"./chunk-2.js";b(c);export{};`],
    ["rare-5.js", `import{b}from"./chunk-1.js";import{d}from"./chunk-3.js";b(d);export{};`],
    ["work-6.js", `import{c}from"./chunk-2.js";import{d}from"./chunk-3.js";c(d);export{};`],
  ]);
  const packs = packed(modules, ["look", "work"]);
  const names = [...packs].map(([pack, script]) =>
    [pack, [...script.matchAll(/"([\w.-]+)":\(\(/g)].map(([, name]) => name)] as const
  );
  deepEqual(Object.fromEntries(names), {
    "main.js": ["chunk-0.js", "main.js"],
    "look-4.js": ["chunk-1.js", "look-4.js"],
    "work-6.js": ["chunk-3.js", "work-6.js"],
    "look-4+work-6.js": ["chunk-2.js"],
    "rare-5.js": ["rare-5.js"],
  });
  match(packs.get("rare-5.js") ?? "", /\$require\("\.\/work-6\.js#chunk-3\.js"\)/);
  match(packs.get("main.js") ?? "", /\$load\("\.\/work-6\.js#work-6\.js"\)/);
  throws(() => packed(modules, ["gone"]), PackError);
});

const target = `${Deno.build.arch}-unknown-linux-gnu`;

Deno.test("the same module gives the same program, wherever and whenever it is compiled", async () => {
  const { path: denort } = await findDenort(target, root, () => {});
  const hashes: string[] = [];
  for (const suffix of ["", "-elsewhere"]) {
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-", suffix });
    try {
      const module = `${folder}/program.js`, output = `${folder}/program`;
      await Deno.writeTextFile(module, "console.log('same');\n");
      await Deno.utime(module, 0, 0);
      await compileModule({ module, output, denort, target, permissions: [] });
      hashes.push(await sha256(await Deno.readFile(output)));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }
  equal(hashes[0], hashes[1]);
});

Deno.test("a compiled program leaves no code in the temporary folder, asks nothing", async () => {
  const { path: denort } = await findDenort(target, root, () => {});
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    const module = `${folder}/program.js`, output = `${folder}/program`;
    await Deno.writeTextFile(module, "Deno.readTextFileSync('/etc/hostname');\n");
    await compileModule({ module, output, denort, target, permissions: ["--no-prompt"] });
    await Deno.mkdir(`${folder}/tmp`);
    const { code, stderr } = await new Deno.Command(output, {
      env: { TMPDIR: `${folder}/tmp`, NO_COLOR: "1" },
      stdin: "null",
    }).output();
    notEqual(code, 0);
    match(new TextDecoder().decode(stderr), /NotCapable: Requires read access/);
    equal([...Deno.readDirSync(`${folder}/tmp`)].length, 0);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
