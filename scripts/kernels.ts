/**
 * `deno task test:kernels`: the tests of the eBPF engine on older kernels, Debian's own, each in a
 * virtual machine that has nothing but them. Root, for the packages of qemu; `--write` puts the result
 * into docs/verification.md. Kernels are fetched once, into a folder outside of the repository:
 * `KUMA_CNI_KERNELS_CACHE`, else `/var/cache/kuma-cni-kernels`.
 */
import { checksOf, sectionOf, withSection } from "./e2e/verification.ts";
import { obtainKernel } from "./kernels/debian_kernel.ts";
import { makeInitramfs } from "./kernels/initramfs.ts";
import { runMachine } from "./kernels/machine.ts";
import { installMissingPackages } from "./packages.ts";

/** Debian's releases whose kernels are tried, and what these are. */
const kernels = [
  { release: "bullseye", line: "5.10" },
  { release: "bookworm", line: "6.1" },
] as const;

const help = `Usage: deno task test:kernels [--write] [LINE...]

Runs the tests of the eBPF engine on Debian's kernels, each in a virtual machine (qemu), as root:
${kernels.map(({ line }) => line).join(", ")}, all of them unless told.

  --write   put results and times into docs/verification.md`;

const root = new URL("..", import.meta.url).pathname;
const cache = Deno.env.get("KUMA_CNI_KERNELS_CACHE") || "/var/cache/kuma-cni-kernels";
const document = `${root}docs/verification.md`;

async function main(): Promise<void> {
  if (Deno.args.includes("--help") || Deno.args.includes("-h")) return console.log(help);
  const write = Deno.args.includes("--write");
  const asked = Deno.args.filter((word) => word !== "--write");
  const unknown = asked.filter((word) => !kernels.some(({ line }) => line === word));
  if (unknown.length > 0) {
    console.error(
      `Unknown ${unknown.join(", ")}; there are ${kernels.map(({ line }) => line).join(", ")}`,
    );
    Deno.exit(2);
  }
  await installMissingPackages(`${root}scripts/kernels/debian_packages.txt`);
  await Deno.mkdir(cache, { recursive: true });
  const chosen = kernels.filter(({ line }) => asked.length === 0 || asked.includes(line));
  let good = true;
  for (const { release, line } of chosen) good = await tryKernel(release, line, write) && good;
  Deno.exit(good ? 0 : 1);
}

async function tryKernel(release: string, line: string, write: boolean): Promise<boolean> {
  console.error(`Linux ${line}: Debian's kernel of ${release}`);
  const kernel = await obtainKernel(release, cache);
  const work = await Deno.makeTempDir({ prefix: "kuma-cni-kernels-" });
  try {
    const initramfs = await makeInitramfs(root, kernel, work);
    const started = performance.now();
    const { report, version, console: text } = await runMachine(
      kernel.image,
      initramfs,
    );
    const checks = checksOf(report, report !== "" && !/<(failure|error)\b/.test(report));
    const failed = checks.filter(({ passed }) => !passed);
    for (const { name, passed } of checks) console.error(`${passed ? "ok    " : "FAILED"} ${name}`);
    if (failed.length > 0 || checks.length === 0) console.error(text);
    if (write) {
      const facts = [
        `Linux ${version} of Debian's package ${kernel.package} ${kernel.version}`,
        "in qemu, which emulates two processors, with 2 GiB",
      ];
      const seconds = (performance.now() - started) / 1000;
      const section = sectionOf({ checks, seconds, facts });
      const title = `The eBPF engine on Linux ${line}`;
      Deno.writeTextFileSync(
        document,
        withSection(Deno.readTextFileSync(document), title, section),
      );
    }
    return checks.length > 0 && failed.length === 0;
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

if (import.meta.main) await main();
