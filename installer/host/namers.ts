/** Who on the host still names the plugin: configuration files, and chains of pods that are running. */
import { messageOf } from "../../src/text/message_of.ts";
import { isConfName } from "../conflist/conf_file.ts";
import { byteString } from "../conflist/json_edit.ts";
import { mentionOf, referenceTo } from "../runtime/mentions.ts";
import type { Settings } from "../settings/declarations.ts";
import { ownFolder } from "../settings/paths.ts";
import type { Operations } from "./operations.ts";
import { seenPath } from "./runtime_view.ts";

/** Bound of a file in bytes, and of the files of a folder. */
const sizeLimit = 1 << 20;
const fileLimit = 10_000;

/** Where Multus, and a runtime behind whose Multus we are, keep configurations. */
const multusFolders = [
  "/etc/cni/multus/net.d",
  "/run/multus/cni/net.d",
  "/etc/kubernetes/cni/net.d",
];

/** A file that names the plugin. */
export interface Namer {
  /** Path as this process sees it. */
  readonly path: string;
  /** Where in it. */
  readonly place: string;
}

/** Returns the configuration files that name the plugin: in the net dir, its folders, Multus' folders. */
export function namersOf(operations: Operations, settings: Settings): Namer[] {
  const net = settings.mountedNetDir;
  const own = operations.targetStatus(net)?.inode;
  const others = multusFolders.map((folder) => seenPath(settings, folder))
    .filter((folder) => operations.targetStatus(folder)?.inode !== own);
  return [net, ...others].flatMap((folder) =>
    [folder, ...foldersIn(operations, folder)].flatMap((folder) => namersIn(operations, folder))
  );
}

function foldersIn(operations: Operations, folder: string): string[] {
  return (listed(operations, folder) ?? []).filter((name) => name !== ownFolder)
    .map((name) => `${folder}/${name}`)
    .filter((path) => operations.targetStatus(path)?.kind === "directory");
}

function namersIn(operations: Operations, folder: string): Namer[] {
  return (listed(operations, folder) ?? []).filter(isConfName).flatMap((name): Namer[] => {
    const path = `${folder}/${name}`;
    const text = textOf(operations, path);
    const place = text === undefined ? undefined : mentionOf(text);
    return place === undefined ? [] : [{ path, place }];
  });
}

/**
 * Returns another file that names a file of the net dir, such as Multus' `clusterNetwork`.
 *
 * @param name Name of the file in the net dir.
 */
export function referrerOf(
  operations: Operations,
  settings: Settings,
  name: string,
): Namer | undefined {
  for (
    const folder of [
      settings.mountedNetDir,
      ...multusFolders.map((f) => seenPath(settings, f)),
    ]
  ) {
    for (const other of (listed(operations, folder) ?? []).filter(isConfName)) {
      const path = `${folder}/${other}`;
      const text = other === name ? undefined : textOf(operations, path);
      const place = text === undefined ? undefined : referenceTo(text, name);
      if (place !== undefined) return { path, place };
    }
  }
  return undefined;
}

/** Chains of pods that were set up while the plugin was chained. */
export interface CachedChains {
  /** Folder that was looked into; `undefined`: it is not there, so nothing is known. */
  readonly folder: string | undefined;
  /** libcni's results that name the plugin; CRI-O tears its pods down with them. */
  readonly results: readonly string[];
  /** What Multus has stored, and tears its pods down with. */
  readonly multus: readonly string[];
}

/** Returns where libcni's cache is seen. */
export function cacheDirOf(settings: Settings): string {
  return settings.mountedCacheDir || seenPath(settings, "/var/lib/cni");
}

/** Looks into the caches. Paths are as this process sees them. */
export function cachedChains(operations: Operations, settings: Settings): CachedChains {
  const folder = cacheDirOf(settings);
  if (operations.targetStatus(folder)?.kind !== "directory") {
    return { folder: undefined, results: [], multus: [] };
  }
  // cri-dockerd keeps its cache one folder deeper than libcni does by default.
  const named = (names: readonly string[]) =>
    names.flatMap((name) => filesThatName(operations, `${folder}/${name}`));
  return { folder, results: named(["results", "cache/results"]), multus: named(["multus"]) };
}

function filesThatName(operations: Operations, folder: string): string[] {
  return (listed(operations, folder) ?? []).slice(0, fileLimit)
    .map((name) => `${folder}/${name}`)
    .filter((path) => mayName(operations, path));
}

/** What cannot be read may be a chain that names the plugin. */
function mayName(operations: Operations, path: string): boolean {
  try {
    return mentionOf(textOf(operations, path) ?? "") !== undefined;
  } catch {
    return true;
  }
}

function listed(operations: Operations, folder: string): string[] | undefined {
  return operations.targetStatus(folder)?.kind === "directory"
    ? operations.list(folder)
    : undefined;
}

/** @throws when a file is there and cannot be read: then nobody knows whom it names. */
function textOf(operations: Operations, path: string): string | undefined {
  const status = operations.targetStatus(path);
  if (status?.kind !== "file" || status.size > sizeLimit) return undefined;
  try {
    const content = operations.read(path);
    return content && byteString(content);
  } catch (error) {
    throw new Error(`Cannot read "${path}": ${messageOf(error)}`);
  }
}
