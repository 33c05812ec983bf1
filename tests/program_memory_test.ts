import { deepEqual, equal, ok } from "node:assert/strict";
import { libc } from "../src/linux/libc.ts";
import { releaseProgramPages, unchangedMappings } from "../src/linux/program_memory.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();
releaseProgramPages("/nonexistent");

/** One mapping as proc(5) shows it, with the lines that matter among some of the others. */
function mapping(header: string, anonymous: number): string {
  return `${header}
Size:                100 kB
Rss:                 100 kB
Private_Dirty:         0 kB
Anonymous:    ${String(anonymous).padStart(8)} kB
AnonHugePages:         0 kB
VmFlags: rd mr mw me
`;
}

Deno.test("only unchanged parts of the program's own file are let go of", () => {
  const program = "/opt/my tools/install-cni";
  const smaps = [
    mapping(`563d2ef67000-563d3120a000 r--p 00000000 fe:00 5310107          ${program}`, 0),
    mapping(`563d3120b000-563d34557000 r-xp 022a3000 fe:00 5310107          ${program}`, 0),
    // Relocated by the dynamic loader and then made read-only: not what the file has.
    mapping(`563d34557000-563d34725000 r--p 055ee000 fe:00 5310107          ${program}`, 1848),
    mapping(`563d34725000-563d34800000 rw-p 055ef000 fe:00 5310107          ${program}`, 0),
    mapping(`563d34800000-563d34900000 r--s 00000000 fe:00 5310107          ${program}`, 0),
    mapping(`563d34900000-563d34a00000 r-xp 00000000 fe:00 5310107          ${program}.old`, 0),
    mapping("563d45955000-563d45f21000 rw-p 00000000 00:00 0                [heap]", 0),
    mapping("7f7ac8000000-7f7ac8175000 r--p 00000000 00:00 0 ", 0),
    mapping("7f7ac8175000-7f7ac8176000 r--p 00000000 00:00 0", 0),
  ].join("");
  deepEqual(unchangedMappings(smaps, program), [
    { start: 0x563d2ef67000n, length: 0x22a3000n },
    { start: 0x563d3120b000n, length: 0x334c000n },
  ]);
  deepEqual(unchangedMappings("", program), []);
});

Deno.test("a running program gives most of its file's pages back and goes on", () => {
  const fileMebibytes = () =>
    Number(/^RssFile:\s+(\d+) kB/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1]) / 1024;
  const compute = () => JSON.stringify(Array.from({ length: 1000 }, (_, i) => Math.sqrt(i)).sort());
  const expected = compute();
  const before = fileMebibytes();
  ok(releaseProgramPages(Deno.execPath()) > 0);
  const after = fileMebibytes();
  ok(after < before - 10, `resident pages of files went from ${before} to ${after} MiB`);
  equal(compute(), expected);
  equal(releaseProgramPages("/nonexistent"), 0);
});
