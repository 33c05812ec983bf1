/** Images of the pods: busybox with its names and two programs of the tests, and a real Envoy with the libraries it needs. */
import { findBusybox } from "../../../scripts/package/busybox.ts";
import { imageArchive, makeImage } from "../../../scripts/package/oci.ts";
import type { TarEntry } from "../../../src/archive/tar.ts";
import { program } from "../../../scripts/e2e/parts.ts";
import { installerImage, installerReference } from "../../support/reference_manifest.ts";

export const box = "e2e.local/box:1";
export const envoy = "e2e.local/envoy:1";
export { installerReference };

const names = ["sh", "cat", "echo", "httpd", "mkdir", "nslookup", "rm", "sleep", "timeout"];

/** Writes the archives into a folder. @returns Their paths. */
export async function writeImages(folder: string, dist: string): Promise<string[]> {
  const busybox: TarEntry[] = [
    { path: "bin", kind: "folder" },
    { path: "tmp", kind: "folder", mode: 0o1777 },
    { path: "bin/busybox", kind: "file", data: await findBusybox("amd64") },
    ...await Promise.all(
      (["validation", "request"] as const).map(async (name) => ({
        path: `bin/${name}`,
        kind: "file" as const,
        data: await Deno.readFile(await program(name)),
      })),
    ),
    ...names.map((name) => ({
      path: `bin/${name}`,
      kind: "symlink" as const,
      target: "busybox",
    })),
  ];
  const archives = {
    box: imageOf(box, busybox, ["/bin/sleep", "1000000"]),
    envoy: imageOf(envoy, [...busybox, ...await envoyFiles()], ["/usr/bin/envoy"]),
    installer: await installerImage(dist),
  };
  const paths: string[] = [];
  for (const [name, bytes] of Object.entries(archives)) {
    paths.push(`${folder}/${name}.tar`);
    await Deno.writeFile(paths.at(-1)!, bytes);
  }
  return paths;
}

function imageOf(reference: string, files: readonly TarEntry[], entrypoint: readonly string[]) {
  const image = makeImage({
    architecture: "amd64",
    files,
    entrypoint,
    environment: ["PATH=/bin:/usr/bin"],
    workingFolder: "/",
  });
  return imageArchive(reference, [image]);
}

async function envoyFiles(): Promise<TarEntry[]> {
  const path = await program("envoy");
  const { stdout } = await new Deno.Command("ldd", { args: [path], stdin: "null" }).output();
  const libraries = [...new TextDecoder().decode(stdout).matchAll(/(\/\S+) \(0x/g)]
    .map(([, library]) => library!);
  const file = async (target: string, from: string): Promise<TarEntry> => ({
    path: target,
    kind: "file",
    data: await Deno.readFile(from),
  });
  const folders = new Set(["usr", "usr/bin"]);
  for (const library of libraries) {
    const parts = library.slice(1).split("/").slice(0, -1);
    parts.forEach((_, index) => folders.add(parts.slice(0, index + 1).join("/")));
  }
  return [
    ...Array.from(folders, (path) => ({ path, kind: "folder" as const })),
    await file("usr/bin/envoy", path),
    ...await Promise.all(libraries.map((library) => file(library.slice(1), library))),
  ];
}
