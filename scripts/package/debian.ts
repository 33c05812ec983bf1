/**
 * Files of Debian packages, also of another architecture than the machine's: apt fetches the packages
 * from the mirror that the machine is set up with and checks their signatures; nothing is installed.
 */
import { run } from "../deno_tools.ts";

/**
 * Fetches packages and unpacks them into one folder.
 *
 * @param architecture As Debian names it: `amd64`, `arm64`.
 * @param packages Names of packages.
 * @param into Folder to unpack into; made when it is missing.
 * @throws {BuildError} when the machine has no apt, or the mirror has no such package.
 */
export async function unpackDebianPackages(
  architecture: string,
  packages: readonly string[],
  into: string,
): Promise<void> {
  const work = await Deno.makeTempDir({ prefix: "debian-" });
  try {
    // A state of its own: the machine's may lack the architecture, and be another's to change.
    for (const folder of ["lists/partial", "cache/archives/partial"]) {
      await Deno.mkdir(`${work}/${folder}`, { recursive: true });
    }
    const options = [
      `APT::Architecture=${architecture}`,
      `APT::Architectures=${architecture}`,
      `Dir::State::Lists=${work}/lists`,
      "Dir::State::Status=/dev/null",
      `Dir::Cache=${work}/cache`,
      "APT::Sandbox::User=root",
    ].flatMap((option) => ["-o", option]);
    const what = `fetch ${packages.join(", ")} for ${architecture} from the Debian mirror`;
    await run("apt-get", ["--quiet", ...options, "update"], work, what);
    await run("apt-get", ["--quiet", ...options, "download", ...packages], work, what);
    await Deno.mkdir(into, { recursive: true });
    for (const { name } of [...Deno.readDirSync(work)]) {
      if (!name.endsWith(".deb")) continue;
      await run("dpkg-deb", ["--extract", `${work}/${name}`, into], work, `unpack "${name}"`);
    }
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}
