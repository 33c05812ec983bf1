/**
 * Makes the release archives: both programs with their libraries, manual page, completions, licences,
 * bill of materials and checksums. The same sources give the same bytes.
 *
 * Usage: deno task release (see its `--help`)
 */
import { parseArgs } from "node:util";
import { VERSION } from "../src/version.ts";
import { root } from "./deno_tools.ts";
import { architecturesOf, ownArchitecture } from "./package/architecture.ts";
import { gzip } from "./package/oci.ts";
import { buildPrograms, readDocuments } from "./package/programs.ts";
import { checksums, releaseFiles, releaseName } from "./package/release_files.ts";
import { tar } from "../src/archive/tar.ts";
import { packageTime } from "./package/time.ts";
import { supervise } from "./supervise.ts";

const help = `Usage: deno task release [--arch ARCH]... [--output FOLDER]

Builds both programs and writes an archive for each architecture, its bill of materials, and
SHA256SUMS over all of them.

  --arch ARCH         amd64 or arm64, by default the machine's own; may be repeated.
                      arm64 needs its denort: see deno task build --help
  --output FOLDER     where to write; by default dist/release-${VERSION}
  --libraries FOLDER  folder with the loader and C library of the one architecture that is built

Environment:
  DENORT_BIN          denort to compile with
  SOURCE_DATE_EPOCH   time of the files in seconds since 1970; by default 0
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      arch: { type: "string", multiple: true },
      output: { type: "string" },
      libraries: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help.trimEnd());
    return 0;
  }
  const chosen = architecturesOf(values.arch ?? [ownArchitecture]);
  if (values.libraries !== undefined && chosen.length > 1) {
    throw new TypeError("--libraries is for one architecture: give --arch once");
  }
  const output = values.output ?? `${root}/dist/release-${VERSION}`;
  const time = packageTime();
  const documents = await readDocuments();
  const written: { path: string; data: Uint8Array }[] = [];
  for (const architecture of chosen) {
    const programs = await buildPrograms(architecture, values.libraries);
    const { files, bill } = releaseFiles({ architecture, programs, documents, time });
    const name = releaseName(architecture);
    written.push(
      { path: `${name}.tar.gz`, data: gzip(tar(files, time)) },
      { path: `${name}.spdx.json`, data: new TextEncoder().encode(bill) },
    );
  }
  written.push({ path: "SHA256SUMS", data: new TextEncoder().encode(checksums(written)) });
  await Deno.mkdir(output, { recursive: true });
  for (const { path, data } of written) {
    await Deno.writeFile(`${output}/${path}`, data);
    console.log(`${output}/${path}: ${(data.length / 1e6).toFixed(1)} MB`);
  }
  return 0;
}

if (import.meta.main) await supervise(import.meta.url, main);
