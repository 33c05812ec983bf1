/**
 * Builds `dist/kuma-cni` and `dist/install-cni`: bundles each program and puts it into denort
 * with `deno compile`. The same sources and the same denort give the same bytes.
 *
 * Beside them comes `dist/kuma-cni.lib/`, the loader and C library of the build machine, which
 * install-cni places beside the plugin so that it runs on hosts that have none, and, where a C
 * compiler is, `dist/kuma-cni.shim`, which runtimes then start in the plugin's place.
 */
import { parseArgs } from "node:util";
import { addBytecode } from "./bytecode.ts";
import { BuildError, bundleModule, compileModule, root } from "./deno_tools.ts";
import { findDenort } from "./denort.ts";
import { sha256 } from "./sha256.ts";
import { addLibraryPath } from "./elf.ts";
import { compileShim, type ShimArchitecture, shimName, shimSources } from "./shim.ts";
import { collectLibraries } from "./libraries.ts";
import { modulesFrom } from "./sources.ts";
import { supervise, sweep, TASK_VARIABLE } from "./supervise.ts";
import { identityOf } from "./task_owner.ts";
import { libraryFolder } from "../installer/host/interpreter.ts";
import { removeIfPresent } from "../installer/host/paths.ts";

export { BuildError, compileModule, root };

/** A program of this project. */
export type ProgramName = "kuma-cni" | "install-cni";

interface Program {
  /** Entry module, relative to the project. */
  readonly entry: string;
  /** Flags of `deno bundle`. */
  readonly bundling: readonly string[];
  /** Permission flags of `deno compile`. */
  readonly permissions: readonly string[];
  /** Flags of V8. */
  readonly v8Flags: readonly string[];
  /** Whether it runs from bytecode that is made when it is built. */
  readonly bytecode: boolean;
}

/** Modules that the build itself consists of, also those that it bundles. */
const buildEntries = [
  "scripts/build.ts",
  "scripts/compiled_plugin/start.ts",
  "scripts/compiled_plugin/make_bytecode.ts",
];

/** The programs and what each may do. */
export const programs: Readonly<Record<ProgramName, Program>> = {
  "kuma-cni": {
    entry: "main.ts",
    bundling: ["--minify", "--code-splitting"],
    bytecode: true,
    // A call is over before compiling to machine code pays: without, it takes 2 ms and 4 MiB less.
    // Besides, V8 then works on hosts that forbid memory which is writable and executable. Without
    // laziness V8 makes bytecode of all functions when the plugin is built. Helper threads of V8, for
    // garbage and compilation, cost more than they bring in so short a life.
    v8Flags: ["--jitless", "--no-lazy", "--single-threaded"],
    permissions: [
      // A permission that is missing is an error: nobody sits at a container runtime's plugin.
      "--no-prompt",
      // libc by its name: Deno resolves a path-limited FFI permission against the working folder.
      "--allow-ffi",
      // The network configuration names kubeconfig, certificates and log files.
      "--allow-read",
      "--allow-write",
      // The kubeconfig names the API server.
      "--allow-net",
      // The CNI parameters; PATH, where the iptables engine looks for its tools; which proxy leads to
      // the API server; and what would let another authority count beside the kubeconfig's.
      "--allow-env=CNI_*,PATH," +
      "HTTP_PROXY,http_proxy,HTTPS_PROXY,https_proxy,ALL_PROXY,all_proxy,NO_PROXY,no_proxy," +
      "DENO_CERT,DENO_TLS_CA_STORE,SSL_CERT_DIR,SSL_CERT_FILE",
    ],
  },
  "install-cni": {
    // With the plugin inside, which an image then also has under its own name.
    entry: "scripts/compiled_installer/start.ts",
    bundling: [],
    bytecode: false,
    // It waits most of its life: without V8's compilers it needs 10 MiB less and no more CPU time.
    v8Flags: ["--lite-mode"],
    permissions: [
      "--no-prompt",
      // fsync of folders and file ownership go through libc.
      "--allow-ffi",
      // Host folders, token, ready file and binary are all places that settings name.
      "--allow-read",
      "--allow-write",
      // The API server, health and metrics ports, the agent's socket.
      "--allow-net",
      // Each setting has an environment variable.
      "--allow-env",
      // The own pod's name is the host name; files must belong to the user that runs this.
      "--allow-sys=hostname,uid,gid,osRelease",
    ],
  },
};

/** Begin of the names of folders that a build works in; their owner follows. */
const workPrefix = "build.";

/** Choices of a build. */
export interface BuildOptions {
  /** Programs to build; all by default. */
  readonly only?: readonly ProgramName[];
  /** Target triple; by default Linux on the machine's own architecture. */
  readonly target?: string;
  /** Folder with the target's loader and C library, when the build machine has another. */
  readonly libraries?: string;
  /** Refuse a denort that neither the Deno project publishes nor `DENORT_BIN` names. */
  readonly officialRuntimeOnly?: boolean;
  /** Folder to build into; `dist/` by default. */
  readonly into?: string;
  /** Takes lines for people. */
  readonly say?: (line: string) => void;
}

/** A built program. */
export interface Built {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
}

/**
 * Builds programs into `dist/`. Builds of other processes in the same folder are waited for.
 *
 * @param options What to build, for which target.
 * @returns Path, size in bytes and hash of each program.
 * @throws {BuildError} when bundling or compiling fails.
 * @throws {DenortError} when denort is not to be had.
 */
export async function build(options: BuildOptions = {}): Promise<Built[]> {
  using _lock = await lockBuild();
  return await buildLocked(options);
}

/**
 * Builds a program unless what is in `dist/` is newer than all its sources.
 *
 * @param name The program.
 * @param say Takes lines for people.
 * @returns Absolute path of the program.
 */
export async function buildIfStale(
  name: ProgramName,
  say: (line: string) => void = console.error,
): Promise<string> {
  using _lock = await lockBuild();
  const path = `${root}/dist/${name}`;
  const builtAt = modificationTime(path);
  const changed = Math.max(...sourcesOf(name).map((s) => modificationTime(`${root}/${s}`)));
  if (builtAt <= changed) await buildLocked({ only: [name], say });
  return path;
}

/**
 * Lists the files whose change makes a built program stale.
 *
 * @returns Paths relative to the project.
 */
export function sourcesOf(name: ProgramName): string[] {
  const modules = modulesFrom(root, [programs[name].entry, ...buildEntries]);
  const shim = name === "kuma-cni" ? shimSources : [];
  return [...modules, ...shim, "deno.json", "deno.lock"];
}

async function buildLocked(options: BuildOptions): Promise<Built[]> {
  const say = options.say ?? console.error;
  const target = options.target ?? `${Deno.build.arch}-unknown-linux-gnu`;
  const denort = await findDenort(target, root, say, options.officialRuntimeOnly);
  say(`denort: ${denort.source}, sha256 ${denort.sha256}`);
  const into = options.into ?? `${root}/dist`;
  const built: Built[] = [];
  // On the file system of dist/, so that each result appears there by a rename.
  sweep(`${root}/.cache`, workPrefix);
  const owner = Deno.env.get(TASK_VARIABLE) || identityOf(Deno.pid);
  const work = await Deno.makeTempDir({ dir: `${root}/.cache`, prefix: `${workPrefix}${owner}-` });
  try {
    // Both programs are made from one base, so that an image needs it only once.
    const base = await selfContainedDenort(
      denort.path,
      work,
      await libraries(denort.path, into, options),
    );
    if (options.only?.includes("kuma-cni") ?? true) {
      const architecture = target.split("-")[0] as ShimArchitecture;
      if (await compileShim(architecture, `${work}/${shimName}`, say)) {
        await Deno.mkdir(into, { recursive: true });
        await Deno.rename(`${work}/${shimName}`, `${into}/${shimName}`);
      } else removeIfPresent(`${into}/${shimName}`);
    }
    for (const name of options.only ?? (Object.keys(programs) as ProgramName[])) {
      const started = new Date();
      const program = programs[name];
      const { bundling, bytecode, v8Flags } = program;
      const bundled = await bundleModule(program.entry, `${work}/${name}.bundle`, bundling);
      const module = bytecode
        ? await addBytecode({
          bundle: `${work}/${name}.bundle`,
          // Of most pods outside of the mesh, and of those in it.
          often: ["lookup", "capture"],
          denort: denort.path,
          target,
          v8Flags,
          work,
        })
        : { module: bundled };
      const compiled = `${work}/${name}`;
      await compileModule({ ...program, ...module, output: compiled, denort: base, target });
      const path = `${into}/${name}`;
      // A source that changed during the build must count as newer than its result.
      await Deno.utime(compiled, started, started);
      await Deno.mkdir(into, { recursive: true });
      await Deno.rename(compiled, path);
      const bytes = await Deno.readFile(path);
      built.push({ path, size: bytes.length, sha256: await sha256(bytes) });
    }
  } finally {
    await Deno.remove(work, { recursive: true });
  }
  return built;
}

/** Collects the programs' libraries and returns the name of their version's folder. */
async function libraries(
  denort: string,
  into: string,
  options: BuildOptions,
): Promise<string> {
  const { version } = await collectLibraries({
    denort: await Deno.readFile(denort),
    into: `${into}/kuma-cni.lib`,
    ...(options.libraries === undefined ? {} : { from: options.libraries }),
  });
  return version;
}

/**
 * Writes a denort that looks for its C library beside the program.
 *
 * @param denort Path of denort.
 * @param folder Where to write it.
 * @param version Folder of the libraries within the library folder.
 * @returns Path of the edited denort.
 */
export async function selfContainedDenort(
  denort: string,
  folder: string,
  version = "0",
): Promise<string> {
  // Beside the program, or above it where a shim has its name and its place.
  const path = `$ORIGIN/${libraryFolder}/${version}:$ORIGIN/../${version}`;
  const edited = addLibraryPath(await Deno.readFile(denort), path);
  await Deno.writeFile(`${folder}/denort`, edited, { mode: 0o755 });
  return `${folder}/denort`;
}

/** Holds off other builds in this folder until disposed of. */
async function lockBuild(): Promise<Disposable> {
  await Deno.mkdir(`${root}/.cache`, { recursive: true });
  const file = await Deno.open(`${root}/.cache/build.lock`, { create: true, write: true });
  await file.lock(true);
  return file;
}

/** Modification time of a file in milliseconds; 0 when it is not there. */
function modificationTime(path: string): number {
  try {
    return Deno.statSync(path).mtime?.getTime() ?? 0;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

const help = `Usage: deno task build [OPTION]...

Builds dist/kuma-cni and dist/install-cni, and with a C compiler dist/kuma-cni.shim.

  --target TRIPLE     x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu; by default the
                      machine's own. The npm registry has no denort for aarch64: there the build
                      needs Deno's own download, or DENORT_BIN.
  --libraries FOLDER  folder with the loader and C library of the target (ld-linux-*, libc.so.6, ...);
                      by default those of this machine
  --only PROGRAM      kuma-cni or install-cni; may be repeated
  --official-runtime-only
                      for releases: refuse denort out of npm packages of others, for which only a
                      hash in scripts/denort.ts vouches

Environment:
  CC                  C compiler of the shim; by default cc, gcc or clang, for another architecture
                      than the machine's aarch64-linux-gnu-gcc and the like
  DENORT_BIN          denort to compile with, for example of a newer Deno (docs/upgrading-deno.md)
  DENORT_BASE_URL     a mirror of the Deno project's downloads, with their checksums
  DENO_TLS_CA_STORE   "system" where TLS is intercepted by a local certificate authority
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      target: { type: "string" },
      libraries: { type: "string" },
      only: { type: "string", multiple: true },
      "official-runtime-only": { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  const only = values.only?.map((name) => {
    if (name !== "kuma-cni" && name !== "install-cni") {
      throw new BuildError(`Cannot build program "${name}": expected "kuma-cni" or "install-cni"`);
    }
    return name;
  });
  const built = await build({
    ...(only === undefined ? {} : { only }),
    ...(values.target === undefined ? {} : { target: values.target }),
    ...(values.libraries === undefined ? {} : { libraries: values.libraries }),
    officialRuntimeOnly: values["official-runtime-only"] ?? false,
  });
  for (const { path, size, sha256 } of built) {
    console.log(
      `${path.slice(root.length + 1).padEnd(18)} ${(size / 2 ** 20).toFixed(1)} MiB  ` +
        `sha256 ${sha256}`,
    );
  }
  return 0;
}

if (import.meta.main) await supervise(import.meta.url, main);
