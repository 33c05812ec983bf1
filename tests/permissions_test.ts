import { deepEqual } from "node:assert/strict";
import { root } from "../scripts/build.ts";

/** All TypeScript files below a folder, relative to the project. */
function sourcesIn(folder: string): string[] {
  return [...Deno.readDirSync(`${root}/${folder}`)].flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) return sourcesIn(path);
    return path.endsWith(".ts") ? [path] : [];
  });
}

/** Tells whether a source opens a file of `/proc` or `/sys` with a function of Deno. */
function opensKernelFile(source: string): boolean {
  return /Deno\.(?:open|(?:read|write)(?:Text)?File)(?:Sync)?\(\s*["`]\/(?:proc|sys)\//.test(
    source,
  );
}

Deno.test("the compiled programs open files of /proc and /sys through the C library only", () => {
  const found = [...sourcesIn("src"), ...sourcesIn("installer"), "main.ts"]
    .filter((path) => opensKernelFile(Deno.readTextFileSync(`${root}/${path}`)));
  // The test beds' topology is no part of a compiled program; it also shows that the search works.
  deepEqual(found, ["tests/support/topology.ts"], "Deno wants --allow-all: use readKernelFile");
});
