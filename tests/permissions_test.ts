import { deepEqual } from "node:assert/strict";
import { programs, root } from "../scripts/build.ts";

/** All TypeScript files below a folder, relative to the project. */
function sourcesIn(folder: string): string[] {
  return [...Deno.readDirSync(`${root}/${folder}`)].flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) return sourcesIn(path);
    return path.endsWith(".ts") ? [path] : [];
  });
}

/**
 * Tells whether a source opens a file of `/proc` or `/sys` with a function of Deno: by its path, or by
 * a function that is handed over where such paths are named.
 */
function opensKernelFile(source: string): boolean {
  const code = source.replace(/^ *(?:\/\/|\/?\*).*$/gm, "");
  const opener = String.raw`Deno\.(?:open|(?:read|write)(?:Text)?File)(?:Sync)?`;
  return new RegExp(opener + String.raw`\(\s*["\`]\/(?:proc|sys)\/`).test(code) ||
    (/["`]\/(?:proc|sys)\//.test(code) && new RegExp(opener + String.raw`(?!\w*\()`).test(code));
}

Deno.test("the compiled programs open files of /proc and /sys through the C library only", () => {
  const found = [...sourcesIn("src"), ...sourcesIn("installer"), "main.ts"]
    .filter((path) => opensKernelFile(Deno.readTextFileSync(`${root}/${path}`)));
  deepEqual(found, [], "Deno wants --allow-all: use readKernelFile");
});

Deno.test("the search for such files finds them", () => {
  deepEqual(
    [
      'Deno.readTextFileSync("/proc/self/mountinfo")',
      "await Deno.open(`/sys/fs/${x}`)",
      'read = Deno.readTextFileSync; read("/proc/self/cgroup")',
      '// Deno.open("/proc/x")',
      'Deno.statSync("/proc/x"); Deno.readTextFileSync(path)',
    ].map(opensKernelFile),
    [true, true, true, false, false],
  );
});

Deno.test("the compiled programs may ask of the system what their sources ask of Deno", () => {
  const asked = [...sourcesIn("src"), ...sourcesIn("installer"), "main.ts"].flatMap((path) => {
    const source = Deno.readTextFileSync(`${root}/${path}`);
    const names = "hostname|osRelease|osUptime|loadavg|networkInterfaces|systemMemoryInfo|uid|gid";
    return [...source.matchAll(new RegExp(String.raw`\bDeno\.(${names})\(`, "g"))].map(([, name]) =>
      name!
    );
  });
  const allowed = programs["install-cni"].permissions
    .flatMap((permission) => /^--allow-sys=(.*)$/.exec(permission)?.[1]?.split(",") ?? []);
  deepEqual([...new Set(asked)].sort(), allowed.sort(), "--allow-sys in scripts/build.ts");
});
