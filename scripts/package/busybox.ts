/**
 * The shell of the image. The reference's DaemonSet starts the container by
 * `sh -c -- "sleep N && exec /install-cni"` and asks for readiness by `cat`, every ten seconds: so these
 * are a small static program, not further names of ours, each start of which takes 45 MiB.
 */
import { BuildError, root } from "../deno_tools.ts";
import { sha256 } from "../sha256.ts";
import type { Architecture } from "./architecture.ts";
import { unpackDebianPackages } from "./debian.ts";

/** Debian 12's package `busybox-static`, whose file for an architecture has this hash. */
const pinned: {
  readonly version: string;
  readonly sha256: Readonly<Record<Architecture, string>>;
} = {
  version: "1:1.35.0-4+deb12u1+b1",
  sha256: {
    amd64: "3d9f2889d6782537624a4e1a10e68a2ddd53e0ee8bac02676f27308f42ec6bf6",
    arm64: "61781806ad3650b0b9d2b3fc6971e2bffdca967af1a95375abd0578bafff14fb",
  },
};

/**
 * Finds busybox: the machine's own when it is the pinned one, else what was fetched before, else
 * Debian's package from the machine's mirror.
 *
 * @param architecture What it must run on.
 * @param own A file that the user names instead; any version will do.
 * @returns Bytes of the static program.
 * @throws {BuildError} when it is not to be had, or is another version than the pinned one.
 */
export async function findBusybox(
  architecture: Architecture,
  own?: string,
): Promise<Uint8Array<ArrayBuffer>> {
  if (own !== undefined) return await Deno.readFile(own);
  const expected = pinned.sha256[architecture];
  const kept = `${root}/.cache/busybox/${expected}`;
  for (const path of ["/bin/busybox", kept]) {
    const bytes = await readIfThere(path);
    if (bytes !== undefined && await sha256(bytes) === expected) return bytes;
  }
  const folder = await Deno.makeTempDir({ prefix: "busybox-" });
  try {
    await unpackDebianPackages(architecture, ["busybox-static"], folder);
    const bytes = await Deno.readFile(`${folder}/bin/busybox`);
    const actual = await sha256(bytes);
    if (actual !== expected) {
      throw new BuildError(
        `Refusing busybox of Debian's package busybox-static for ${architecture}: its sha256 is ` +
          `${actual}, expected ${expected} of version ${pinned.version}; the mirror has another ` +
          "version: name the file by --busybox, or change the pin in scripts/package/busybox.ts",
      );
    }
    await Deno.mkdir(`${root}/.cache/busybox`, { recursive: true });
    await Deno.writeFile(kept, bytes);
    return bytes;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function readIfThere(path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
