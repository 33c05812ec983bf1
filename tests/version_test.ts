import { equal, ok } from "node:assert/strict";
import { builtFrom } from "../scripts/deno_tools.ts";
import { SOURCES, VERSION } from "../src/version.ts";

Deno.test("the version in the programs is that of deno.json", async () => {
  const settings = JSON.parse(await Deno.readTextFile(new URL("../deno.json", import.meta.url)));
  equal(VERSION, settings.version);
});

Deno.test("the build names commit and date, and whether files were changed since", async () => {
  const folder = await Deno.makeTempDir();
  const git = async (...args: string[]) => {
    const { success, stdout } = await new Deno.Command("git", {
      args: ["-C", folder, "-c", "user.name=x", "-c", "user.email=x@example.org", ...args],
      env: { GIT_COMMITTER_DATE: "2026-11-27T12:00:00Z", GIT_AUTHOR_DATE: "2026-11-26T12:00:00Z" },
    }).output();
    ok(success);
    return new TextDecoder().decode(stdout).trim();
  };
  try {
    equal(await builtFrom(folder), "unknown sources");
    await git("init", "--quiet");
    await Deno.writeTextFile(`${folder}/file`, "1");
    await git("add", "file");
    await git("commit", "--quiet", "--message=first");
    const commit = (await git("rev-parse", "HEAD")).slice(0, 12);
    equal(await builtFrom(folder), `commit ${commit}, 2026-11-27`);
    await Deno.writeTextFile(`${folder}/file`, "2");
    equal(await builtFrom(folder), `commit ${commit}, 2026-11-27, changed since`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("both programs tell their version in the same form", async () => {
  for (const [program, main] of [["kuma-cni", "main.ts"], ["install-cni", "installer/main.ts"]]) {
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "-A", new URL(`../${main}`, import.meta.url).pathname, "--version"],
    }).output();
    equal(new TextDecoder().decode(stdout), `${program} ${VERSION} (${SOURCES})\n`);
  }
});
