/** Installs the Debian packages that tests need. */

/** Packages are missing and cannot be installed; the message tells which and what to do. */
export class PackageError extends Error {
  override readonly name = "PackageError";
}

/**
 * Installs packages that are missing on this machine, saying which.
 *
 * @param list Path of a file with one package name on each line; `#` starts a comment.
 * @throws {PackageError} when some are missing and this is no Debian, we are not root, or the
 * installation fails.
 */
export async function installMissingPackages(list: string): Promise<void> {
  const missing: string[] = [];
  for (const name of await packagesIn(list)) {
    if (!await isInstalled(name)) missing.push(name);
  }
  if (missing.length === 0) return;
  if (Deno.uid() !== 0) {
    throw new PackageError(
      `Cannot run the tests: the Debian packages ${missing.join(", ")} are missing and only root ` +
        `can install them; run as root, or have "apt-get install ${missing.join(" ")}" run before`,
    );
  }
  console.error(`Installing the Debian packages ${missing.join(", ")}`);
  await aptGet(["update"]);
  await aptGet(["install", "--yes", "--no-install-recommends", ...missing]);
}

async function packagesIn(list: string): Promise<string[]> {
  try {
    const lines = (await Deno.readTextFile(list)).split("\n");
    return lines.map((line) => line.replace(/#.*/, "").trim()).filter((line) => line !== "");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

async function isInstalled(name: string): Promise<boolean> {
  try {
    const { stdout } = await new Deno.Command("dpkg-query", {
      args: ["--show", "--showformat=${db:Status-Status}", name],
      stdin: "null",
      stderr: "null",
    }).output();
    return new TextDecoder().decode(stdout) === "installed";
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new PackageError(
      "Cannot find out whether the packages that the tests need are installed: there is no " +
        "dpkg-query; run the tests on Debian",
    );
  }
}

async function aptGet(args: string[]): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command("apt-get", {
    args: ["--quiet", ...args],
    env: {
      DEBIAN_FRONTEND: "noninteractive",
      // invoke-rc.d starts no service in this run level: the tests start daemons on their own.
      RUNLEVEL: "1",
    },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  if (success) return;
  const decoder = new TextDecoder();
  throw new PackageError(
    `Cannot run "apt-get ${args.join(" ")}":\n${decoder.decode(stdout)}${decoder.decode(stderr)}`
      .trim(),
  );
}
