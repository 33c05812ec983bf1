/** What `deno task release` writes, and what is in it for people: the manual page. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { root } from "../scripts/build.ts";
import { ownArchitecture } from "../scripts/package/architecture.ts";
import { commandFacts } from "../scripts/package/command_tree.ts";
import { manualPage } from "../scripts/package/manual_page.ts";
import { digestOf, gzip } from "../scripts/package/oci.ts";
import { readDocuments, readPrograms } from "../scripts/package/programs.ts";
import { completionPaths, releaseFiles, releaseName } from "../scripts/package/release_files.ts";
import { tar } from "../src/archive/tar.ts";
import { VERSION } from "../src/version.ts";

async function run(program: string, args: readonly string[], options: Deno.CommandOptions = {}) {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    stdin: "null",
    ...options,
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

Deno.test("a release is the same each time, and has programs that run, licences and right checksums", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    const name = releaseName(ownArchitecture);
    const output = `${folder}/a`;
    const args = ["run", "-A", "--no-check", `${root}/scripts/release.ts`, "--output", output];
    const { code, stderr } = await run(Deno.execPath(), args, {
      cwd: folder,
      env: { TZ: "Asia/Tokyo", LANG: "de_DE.UTF-8" },
    });
    equal(code, 0, stderr);
    const names = Array.from(Deno.readDirSync(output), ({ name }) => name).sort();
    deepEqual(names, ["SHA256SUMS", `${name}.spdx.json`, `${name}.tar.gz`]);
    equal((await run("sha256sum", ["--check", "--strict", "SHA256SUMS"], { cwd: output })).code, 0);
    // The image's test builds twice; here the same programs are packed twice.
    const programs = await readPrograms(`${root}/dist`);
    const documents = await readDocuments();
    const again = releaseFiles({ architecture: ownArchitecture, programs, documents });
    equal(
      digestOf(gzip(tar(again.files))),
      digestOf(await Deno.readFile(`${output}/${name}.tar.gz`)),
    );

    equal((await run("tar", ["-xzf", `a/${name}.tar.gz`], { cwd: folder })).code, 0);
    const unpacked = `${folder}/${name}`;
    const checked = await run("sha256sum", ["--check", "--strict", "SHA256SUMS"], {
      cwd: unpacked,
    });
    equal(checked.code, 0, checked.stdout);
    const found = await run("find", [".", "-type", "f"], { cwd: unpacked });
    const files = found.stdout.trim().split("\n").map((path) => path.slice(2));
    equal(checked.stdout.trim().split("\n").length, files.length - 1);
    const expected = ["LICENSE", "NOTICE", "README.md", "sbom.spdx.json", "LICENSES/LGPL-2.1.txt"]
      .concat(
        "share/man/man8/install-cni.8",
        Object.values(completionPaths).map((path) => `share/${path}`),
      );
    deepEqual(expected.filter((path) => !files.includes(path)), []);
    for (const program of ["install-cni", "kuma-cni"]) {
      const { stdout } = await run(`${unpacked}/${program}`, ["--version"]);
      match(stdout, new RegExp(`^${program} ${VERSION} \\((commit|unknown) [^)]+\\)\n$`));
    }
    // The bill names every file but itself and the checksums, which have its hash.
    const bill = JSON.parse(Deno.readTextFileSync(`${unpacked}/sbom.spdx.json`));
    const listed = bill.files.map(({ fileName }: { fileName: string }) => fileName.slice(2));
    deepEqual([...listed, "SHA256SUMS", "sbom.spdx.json"].sort(), files.sort());
    ok(!bill.packages.some(({ name }: { name: string }) => name === "busybox"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the manual page has every command and option, and no line that is taken for a request", () => {
  const commands = commandFacts();
  deepEqual(commands.slice(0, 3).map(({ name }) => name), ["", "install", "check"]);
  const page = manualPage(commands);
  for (const { name, options } of commands) {
    ok(name === "" || page.includes(`\n.SS ${name.replaceAll("-", "\\-")}\n`), name);
    for (const { flags } of options) {
      ok(page.includes(`\n.B ${flags.replaceAll("-", "\\-")}\n`), flags);
    }
  }
  const requests = page.split("\n").filter((line) => /^[.']/.test(line))
    .map((line) => line.split(" ")[0]);
  deepEqual([...new Set(requests)].sort(), [".B", ".I", ".SH", ".SS", ".TH", ".TP", ".br"]);
  const odd = manualPage([{ ...commands[0]!, description: ".so /etc/passwd\n'x \\n" }]);
  match(odd, /\n\\&\.so \/etc\/passwd 'x \\en\. Without/);
});
