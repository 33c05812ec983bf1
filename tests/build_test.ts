import { equal, match, notEqual } from "node:assert/strict";
import { compileModule, root } from "../scripts/build.ts";
import { findDenort, sha256 } from "../scripts/denort.ts";

const target = `${Deno.build.arch}-unknown-linux-gnu`;

Deno.test("the same module gives the same program, wherever and whenever it is compiled", async () => {
  const { path: denort } = await findDenort(target, root, () => {});
  const hashes: string[] = [];
  for (const suffix of ["", "-elsewhere"]) {
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-", suffix });
    try {
      const module = `${folder}/program.js`, output = `${folder}/program`;
      await Deno.writeTextFile(module, "console.log('same');\n");
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
