/** The files of a release archive: for nodes that get their software without a container image. */
import { commandLineOf, completionScript } from "../../installer/commands/completion.ts";
import { commandLine } from "../../installer/main.ts";
import { VERSION } from "../../src/version.ts";
import { shimName } from "../shim.ts";
import type { Architecture } from "./architecture.ts";
import { commandFacts } from "./command_tree.ts";
import { componentsOf } from "./components.ts";
import { manualPage } from "./manual_page.ts";
import { digestOf } from "./oci.ts";
import type { Documents, Programs } from "./programs.ts";
import { billOfMaterials } from "./sbom.ts";
import type { TarEntry } from "../../src/archive/tar.ts";

/** What a release archive is made of. */
export interface ReleaseContents {
  readonly architecture: Architecture;
  readonly programs: Programs;
  readonly documents: Documents;
  /** Seconds since 1970. */
  readonly time?: number;
}

type Shell = Parameters<typeof completionScript>[1];

/** Where each shell looks for a completion, below `/usr/share`. */
export const completionPaths: Readonly<Record<Shell, string>> = {
  bash: "bash-completion/completions/install-cni",
  zsh: "zsh/site-functions/_install-cni",
  fish: "fish/vendor_completions.d/install-cni.fish",
};

/** Name of the archive without its extension, and of the one folder in it. */
export function releaseName(architecture: Architecture): string {
  return `kuma-cni-${VERSION}-linux-${architecture}`;
}

/**
 * Lists the files of a release archive. `SHA256SUMS` in it is for `sha256sum --check` inside of the
 * unpacked folder.
 *
 * @returns The files and the bill of materials, which is one of them.
 */
export function releaseFiles(contents: ReleaseContents): { files: TarEntry[]; bill: string } {
  const { architecture, programs, documents, time } = contents;
  const { plugin, installer, shim, libraries } = programs;
  const text = (data: string) => new TextEncoder().encode(data);
  const commands = commandFacts();
  const files = new Map<string, { data: Uint8Array; mode: number }>();
  const add = (path: string, data: Uint8Array, mode = 0o644) => files.set(path, { data, mode });
  add("kuma-cni", plugin, 0o755);
  add("install-cni", installer, 0o755);
  if (shim !== undefined) add(shimName, shim, 0o755);
  for (const [name, data] of libraries.files) {
    add(`kuma-cni.lib/${libraries.version}/${name}`, data, 0o755);
  }
  for (const [name, data] of documents) add(name, data);
  add("share/man/man8/install-cni.8", text(manualPage(commands)));
  for (const [shell, path] of Object.entries(completionPaths)) {
    const script = completionScript(commandLineOf(commandLine()), shell as Shell);
    add(`share/${path}`, text(`${script.trimEnd()}\n`));
  }
  const bill = billOfMaterials({
    name: releaseName(architecture),
    components: componentsOf(architecture, programs),
    files: Array.from(files, ([path, { data }]) => ({ path, kind: "file", data })),
    ...(time === undefined ? {} : { time }),
  });
  add("sbom.spdx.json", text(bill));
  add(
    "SHA256SUMS",
    text(checksums(Array.from(files, ([path, { data }]) => ({ path, data })))),
  );
  return { files: inFolder(releaseName(architecture), files), bill };
}

/** Lines that `sha256sum --check` reads. */
export function checksums(
  files: readonly { readonly path: string; readonly data: Uint8Array }[],
): string {
  return files.map(({ path, data }) => `${digestOf(data).slice("sha256:".length)}  ${path}\n`)
    .join("");
}

/** Entries of an archive with one folder, parents before what is in them. */
function inFolder(
  top: string,
  files: ReadonlyMap<string, { readonly data: Uint8Array; readonly mode: number }>,
): TarEntry[] {
  const entries = new Map<string, TarEntry>();
  for (const [path, { data, mode }] of files) {
    const parts = `${top}/${path}`.split("/");
    for (let depth = 1; depth < parts.length; depth++) {
      const folder = parts.slice(0, depth).join("/");
      if (!entries.has(folder)) entries.set(folder, { path: folder, kind: "folder" });
    }
    entries.set(`${top}/${path}`, { path: `${top}/${path}`, kind: "file", mode, data });
  }
  return [...entries.values()];
}
