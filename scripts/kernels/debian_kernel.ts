/** Gets a kernel of Debian, with its modules. */
import { run } from "./run.ts";

/** A kernel as its package has it. */
export interface Kernel {
  readonly package: string;
  /** Version of the package. */
  readonly version: string;
  /** Path of the bootable image. */
  readonly image: string;
  /** Folder with the modules, named after the kernel's release. */
  readonly modules: string;
}

/** Depends on the newest kernel of its release; for virtual machines. */
const META_PACKAGE = "linux-image-cloud-amd64";

/**
 * Fetches the newest kernel of a release, from where this machine gets its packages.
 *
 * @param release Debian's name, for example `bullseye`.
 * @param cache Folder that keeps what was fetched.
 */
export async function obtainKernel(release: string, cache: string): Promise<Kernel> {
  const folder = `${cache}/${release}`;
  for (const below of ["lists/partial", "archives/partial"]) {
    await Deno.mkdir(`${folder}/${below}`, { recursive: true });
  }
  await Deno.writeTextFile(`${folder}/sources.list`, await sourcesOf(release));
  const options = [
    `Dir::Etc::sourcelist=${folder}/sources.list`,
    "Dir::Etc::sourceparts=-",
    `Dir::State::lists=${folder}/lists`,
    `Dir::Cache=${folder}`,
    "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  await run("apt-get", [...options, "--quiet", "update"]);
  const depends = await run("apt-cache", [...options, "depends", META_PACKAGE]);
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined) {
    throw new Error(`Cannot find the kernel of ${release}: ${META_PACKAGE} depends on none`);
  }
  const shown = await run("apt-cache", [...options, "show", "--no-all-versions", name]);
  const version = /^Version: (.*)$/m.exec(shown)?.[1] ?? "";
  const unpacked = `${folder}/${name}_${version}`;
  if (!await isFolder(unpacked)) {
    await run("apt-get", [...options, "--quiet", "download", name], folder);
    const archive = [...Deno.readDirSync(folder)]
      .find((entry) => entry.name.startsWith(`${name}_`) && entry.name.endsWith(".deb"));
    if (archive === undefined) throw new Error(`Cannot find the package ${name} in "${folder}"`);
    const partial = `${unpacked}.partial`;
    await run("dpkg-deb", ["--extract", `${folder}/${archive.name}`, partial]);
    await Deno.rename(partial, unpacked);
  }
  const kernelRelease = name.slice("linux-image-".length);
  return {
    package: name,
    version,
    image: `${unpacked}/boot/vmlinuz-${kernelRelease}`,
    modules: `${unpacked}/lib/modules/${kernelRelease}`,
  };
}

/** The same mirrors as this machine's, for another release. */
async function sourcesOf(release: string): Promise<string> {
  const uris = await run("apt-get", ["indextargets", "--format", "$(REPO_URI)"]);
  const key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
  return [...new Set(uris.split("\n"))].filter((uri) => /\/debian(-security)?\/$/.test(uri))
    .map((uri) => {
      const suite = uri.endsWith("-security/") ? `${release}-security` : release;
      return `deb ${key} ${uri} ${suite} main\n`;
    }).join("");
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch {
    return false;
  }
}
