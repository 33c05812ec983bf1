/**
 * The files of the container image. Paths, entry point and environment are those of the reference's
 * image, so that its DaemonSet starts ours with nothing but another image name.
 */
import { libraryFolder } from "../../installer/host/interpreter.ts";
import { VERSION } from "../../src/version.ts";
import { shimName } from "../shim.ts";
import { type Architecture, namesOf } from "./architecture.ts";
import { componentsOf } from "./components.ts";
import { type Documents, pluginPayload, type Programs } from "./programs.ts";
import { billOfMaterials } from "./sbom.ts";
import type { TarEntry } from "../../src/archive/tar.ts";

/** Folder of the plugin, and of the container's processes. */
export const pluginFolder = "opt/cni/bin";

/** What an image is made of. */
export interface ImageContents {
  readonly architecture: Architecture;
  readonly programs: Programs;
  readonly busybox: Uint8Array<ArrayBuffer>;
  readonly documents: Documents;
  /** Seconds since 1970. */
  readonly time?: number;
}

/** Folders that the image has only for what is mounted there; a read-only root can get no further. */
const mountPoints = [
  "dev",
  "etc",
  "host",
  "host/etc",
  "host/etc/cni",
  "host/etc/cni/net.d",
  "host/opt",
  "host/opt/cni",
  "host/opt/cni/bin",
  "proc",
  "run",
  "sys",
  "var",
  "var/run",
  "var/run/secrets",
  "var/run/secrets/kubernetes.io",
  "var/run/secrets/kubernetes.io/serviceaccount",
];

/**
 * Lists the files of an image, parents before what is in them.
 *
 * The runtime, nearly all of a program's bytes, is there once: `/opt/cni/bin/kuma-cni` is a second name
 * of `/install-cni`, which is the plugin under that name. `kuma-cni.payload` is what install-cni puts
 * after the runtime to make the plugin of the host.
 *
 * @returns The files and the bill of materials, which is one of them.
 */
export function imageFiles(contents: ImageContents): { files: TarEntry[]; bill: string } {
  const { architecture, programs, busybox, documents, time } = contents;
  const { loader } = namesOf[architecture];
  const libraries = `${pluginFolder}/kuma-cni.lib`;
  const versioned = `${libraries}/${programs.libraries.version}`;
  const loaderName = loader.slice(loader.lastIndexOf("/") + 1);
  const folder = (path: string): TarEntry => ({ path, kind: "folder" });
  const file = (path: string, data: Uint8Array, mode = 0o644): TarEntry => ({
    path,
    kind: "file",
    mode,
    data,
  });
  const link = (path: string, target: string): TarEntry => ({ path, kind: "symlink", target });
  const files: TarEntry[] = [
    ...mountPoints.map(folder),
    { ...folder("tmp"), mode: 0o1777 },
    folder("bin"),
    file("bin/busybox", busybox, 0o755),
    ...["cat", "sh", "sleep"].map((name) => link(`bin/${name}`, "busybox")),
    folder("opt"),
    folder("opt/cni"),
    folder(pluginFolder),
    folder(libraries),
    folder(versioned),
    ...Array.from(
      programs.libraries.files,
      ([name, data]) => file(`${versioned}/${name}`, data, 0o755),
    ),
    folder(loader.slice(0, loader.lastIndexOf("/"))),
    link(loader, `/${versioned}/${loaderName}`),
    // Both names of the program look for their libraries in this folder beside them.
    link(libraryFolder, `/${libraries}`),
    link(`${pluginFolder}/${libraryFolder}`, "kuma-cni.lib"),
    file("install-cni", programs.installer, 0o755),
    { path: `${pluginFolder}/kuma-cni`, kind: "hardlink", target: "install-cni" },
    file(`${pluginFolder}/kuma-cni.payload`, pluginPayload(programs)),
    ...programs.shim === undefined
      ? []
      : [file(`${pluginFolder}/${shimName}`, programs.shim, 0o755)],
    folder("kuma"),
    folder("kuma/LICENSES"),
    ...Array.from(documents, ([name, data]) => file(`kuma/${name}`, data)),
  ];
  const bill = billOfMaterials({
    name: `kuma-cni-${VERSION}-image-${architecture}`,
    components: componentsOf(architecture, programs, busybox),
    files,
    ...(time === undefined ? {} : { time }),
  });
  return { files: [...files, file("kuma/sbom.spdx.json", new TextEncoder().encode(bill))], bill };
}
