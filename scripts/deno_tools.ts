/** The two tools of Deno that a build needs: its bundler and its compiler. */
import { SOURCES } from "../src/version.ts";
import { withRepeatableNames } from "./bundle.ts";
import { certificateHint } from "./denort.ts";

/** Folder of the project, without a trailing slash. */
export const root: string = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

/** The build cannot go on; the message tells what to do. */
export class BuildError extends Error {
  override readonly name = "BuildError";
}

/**
 * Bundles a module of the project with all that it imports, so that nothing is resolved at start-up.
 *
 * @param entry Path of the module, relative to the project.
 * @param folder Where to write the bundle; made when it is missing.
 * @param flags Flags of `deno bundle`.
 * @returns Path of the bundled module; modules that it imports later stand beside it.
 * @throws {BuildError} when `deno bundle` fails.
 */
export async function bundleModule(
  entry: string,
  folder: string,
  flags: readonly string[] = [],
): Promise<string> {
  await deno(
    ["bundle", "--quiet", "--platform", "deno", "--outdir", folder, ...flags, entry],
    root,
    `bundle "${entry}"`,
  );
  const commit = await builtFrom();
  const modules = new Map<string, string>();
  for (const file of Deno.readDirSync(folder)) {
    const text = await Deno.readTextFile(`${folder}/${file.name}`);
    modules.set(file.name, text.replaceAll(SOURCES, commit));
    await Deno.remove(`${folder}/${file.name}`);
  }
  for (const [file, text] of withRepeatableNames(modules)) {
    await writeForCompiler(`${folder}/${file}`, text);
  }
  return `${folder}/${entry.slice(entry.lastIndexOf("/") + 1).replace(/\.ts$/, ".js")}`;
}

/**
 * Says in a few words what is built: the commit and its date, both of which are the same wherever it
 * is built, and whether files were changed since.
 *
 * @returns `unknown sources` where git, or its data, is missing, as in an unpacked archive.
 */
export async function builtFrom(folder: string = root): Promise<string> {
  const git = async (...args: string[]): Promise<string | undefined> => {
    try {
      // Git refuses folders of other users, such as the clone of a container's build, unless told.
      const { success, stdout } = await new Deno.Command("git", {
        args: ["-c", `safe.directory=${folder}`, "-C", folder, ...args],
        stderr: "null",
      }).output();
      return success ? new TextDecoder().decode(stdout).trim() : undefined;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  };
  const commit = await git("log", "-1", "--date=short", "--abbrev=12", "--format=commit %h, %cd");
  if (commit === undefined) return "unknown sources";
  const changes = await git("status", "--porcelain", "--untracked-files=no");
  return changes === "" ? commit : `${commit}, changed since`;
}

/** Writes a file that `deno compile` is to pack. */
export async function writeForCompiler(path: string, content: string | Uint8Array): Promise<void> {
  await Deno.writeFile(
    path,
    typeof content === "string" ? new TextEncoder().encode(content) : content,
  );
  // deno compile stores the time of the file, which would make each build another one.
  await Deno.utime(path, 0, 0);
}

/** What {@linkcode compileModule} needs. */
export interface CompileOptions {
  /** Absolute path of the entry module, in a folder without project. */
  readonly module: string;
  /** Names of files beside the module that the program reads. */
  readonly include?: readonly string[];
  /** Absolute path of the program to write. */
  readonly output: string;
  /** Path of denort. */
  readonly denort: string;
  readonly target: string;
  /** Permission flags. */
  readonly permissions: readonly string[];
  /** Flags of V8. */
  readonly v8Flags?: readonly string[];
}

/**
 * Puts a module, and those that it imports, into denort.
 *
 * @throws {BuildError} when `deno compile` fails.
 */
export async function compileModule(options: CompileOptions): Promise<void> {
  const { module, output, denort, target, permissions, include = [], v8Flags = [] } = options;
  await deno(
    [
      "compile",
      "--quiet",
      "--no-config",
      "--no-check",
      // The cache has a predictable name in the temporary folder and is loaded back: any local user
      // could plant code there for root.
      "--no-code-cache",
      ...permissions,
      ...(v8Flags.length === 0 ? [] : [`--v8-flags=${v8Flags.join(",")}`]),
      ...include.flatMap((name) => ["--include", name]),
      "--target",
      target,
      "--output",
      output,
      module,
    ],
    // From a folder without project, so that nothing else is packed.
    module.slice(0, module.lastIndexOf("/")),
    `compile "${module.slice(module.lastIndexOf("/") + 1)}"`,
    { DENORT_BIN: denort },
  );
}

/** Runs the Deno that runs us: with npx, no `deno` need be on PATH. */
async function deno(
  args: string[],
  cwd: string,
  what: string,
  env: Record<string, string> = {},
): Promise<void> {
  await run(Deno.execPath(), args, cwd, what, env);
}

/**
 * Runs a program to its end.
 *
 * @param what What is done, for the message of an error.
 * @throws {BuildError} with the program's output when it fails.
 */
export async function run(
  program: string,
  args: string[],
  cwd: string,
  what: string,
  env: Record<string, string> = {},
): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args,
    cwd,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  if (success) return;
  const output = new TextDecoder().decode(stderr) + new TextDecoder().decode(stdout);
  throw new BuildError(
    `Cannot ${what}:\n${output.replace(/\nStack backtrace:[^]*$/, "").trim()}` +
      certificateHint(output),
  );
}
