/** The built programs of an architecture, and what goes with them into every package. */
import { exists } from "../../installer/host/paths.ts";
import { build, root } from "../build.ts";
import { BuildError } from "../deno_tools.ts";
import { withoutAppendedData } from "../denort.ts";
import { shimName } from "../shim.ts";
import { type Architecture, namesOf, ownArchitecture } from "./architecture.ts";
import { unpackDebianPackages } from "./debian.ts";

/** Both programs with their libraries. */
export interface Programs {
  readonly plugin: Uint8Array<ArrayBuffer>;
  readonly installer: Uint8Array<ArrayBuffer>;
  /** What runtimes start in the plugin's place, where a C compiler was there to make it. */
  readonly shim?: Uint8Array<ArrayBuffer>;
  /** Loader and C library: the name of their version's folder and the files by name. */
  readonly libraries: {
    readonly version: string;
    readonly files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
  };
}

/** A file for people, by its name in the package. */
export type Documents = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

/**
 * Builds both programs.
 *
 * @param architecture What they are to run on.
 * @param libraries Folder with loader and C library of another architecture than the machine's; by
 * default they come from Debian's packages.
 * @param say Takes lines for people.
 * @throws {BuildError} when they cannot be built.
 * @throws {DenortError} when there is no denort for the architecture.
 */
export async function buildPrograms(
  architecture: Architecture,
  libraries?: string,
  say: (line: string) => void = console.error,
): Promise<Programs> {
  const { target } = namesOf[architecture];
  if (architecture === ownArchitecture && libraries === undefined) {
    await build({ target, say });
    return await readPrograms(`${root}/dist`);
  }
  const foreign = await Deno.makeTempDir({ prefix: "libraries-" });
  try {
    const from = libraries ?? await debianLibraries(architecture, foreign);
    const into = `${root}/dist/${architecture}`;
    await build({ target, libraries: from, into, say });
    return await readPrograms(into);
  } finally {
    await Deno.remove(foreign, { recursive: true });
  }
}

/** Reads what `deno task build` has written to a folder. */
export async function readPrograms(dist: string): Promise<Programs> {
  const [version] = Array.from(Deno.readDirSync(`${dist}/kuma-cni.lib`), ({ name }) => name);
  const folder = `${dist}/kuma-cni.lib/${version}`;
  const names = Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const name of names) files.set(name, await Deno.readFile(`${folder}/${name}`));
  const shim = exists(`${dist}/${shimName}`)
    ? { shim: await Deno.readFile(`${dist}/${shimName}`) }
    : {};
  return {
    ...shim,
    plugin: await Deno.readFile(`${dist}/kuma-cni`),
    installer: await Deno.readFile(`${dist}/install-cni`),
    libraries: { version: version!, files },
  };
}

/**
 * Returns what makes the plugin of the runtime that both programs have.
 *
 * @throws {BuildError} when they do not have the same.
 */
export function pluginPayload({ plugin, installer }: Programs): Uint8Array<ArrayBuffer> {
  const runtime = withoutAppendedData(plugin);
  const other = withoutAppendedData(installer);
  if (runtime.length !== other.length || !runtime.every((byte, i) => byte === other[i])) {
    throw new BuildError(
      "Cannot put both programs into one image: kuma-cni and install-cni were built from " +
        'different runtimes; build both anew by "deno task build"',
    );
  }
  return plugin.slice(runtime.length);
}

/** Licences and notices, by their names in a package. */
export async function readDocuments(): Promise<Documents> {
  const names = Array.from(Deno.readDirSync(`${root}/LICENSES`), ({ name }) => `LICENSES/${name}`);
  const documents = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const name of ["LICENSE", "NOTICE", "README.md", ...names.sort()]) {
    documents.set(name, await Deno.readFile(`${root}/${name}`));
  }
  return documents;
}

async function debianLibraries(architecture: Architecture, into: string): Promise<string> {
  await unpackDebianPackages(architecture, ["libc6", "libgcc-s1"], into);
  return `${into}/${namesOf[architecture].libraries}`;
}
