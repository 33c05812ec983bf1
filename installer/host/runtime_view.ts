/** What is seen of the runtime: its configuration, and what it finds beside the net dir's files. */
import { type ConfFile, isConfName, jsonOf } from "../conflist/conf_file.ts";
import { pluginType } from "../conflist/conflist.ts";
import { memberOf, stringMemberOf } from "../conflist/json_edit.ts";
import type { ConfigReader } from "../runtime/config_reader.ts";
import { detectRuntime } from "../runtime/detect_runtime.ts";
import type { NetDir } from "../runtime/network.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import type { Operations } from "./operations.ts";

/** The runtime and what it finds. */
export interface RuntimeView {
  readonly runtime: Runtime;
  readonly dir: NetDir;
  /** In words, that the runtime reads another net dir. */
  readonly wrongNetDir?: string;
  /** In words, that the runtime looks for plugins elsewhere. */
  readonly wrongBinDir?: string;
  /** Files and folders that this view depends on, besides those of the net dir. */
  readonly paths: readonly string[];
}

/** Bound of a runtime's configuration file in bytes. */
const sizeLimit = 1 << 20;

/** Returns the path under which a path of the host is seen. */
export function seenPath(settings: Settings, hostPath: string): string {
  return `${settings.mountedHostRoot === "/" ? "" : settings.mountedHostRoot}${hostPath}`;
}

/** Looks at the runtime. */
export function viewRuntime(
  operations: Operations,
  settings: Settings,
  files: readonly ConfFile[],
  readConf: (folder: string, name: string) => ConfFile | undefined,
): RuntimeView {
  const paths = new Set<string>();
  const reader = readerOf(operations, settings, paths);
  const runtime = detectRuntime(settings.runtime, settings.netDir, reader);
  return {
    runtime,
    dir: {
      files,
      folders: foldersOf(operations, settings, files, readConf, paths),
      hasProgram: programsOf(operations, settings, runtime, paths),
    },
    ...wrongFoldersOf(operations, settings, runtime),
    paths: [...paths],
  };
}

function readerOf(operations: Operations, settings: Settings, paths: Set<string>): ConfigReader {
  const attempt = <T>(path: string, work: (path: string) => T): T | undefined => {
    const seen = seenPath(settings, path);
    try {
      const result = work(seen);
      if (result !== undefined && result !== false) paths.add(seen);
      return result;
    } catch {
      // A file that we may not read tells nothing, as one that is not there.
      return undefined;
    }
  };
  // A configuration that imports itself in many ways is looked at once.
  const lists = new Map<string, readonly string[] | undefined>();
  return {
    read: (path) =>
      attempt(path, (seen) => {
        const status = operations.targetStatus(seen);
        if (status?.kind !== "file" || status.size > sizeLimit) return undefined;
        const bytes = operations.read(seen);
        return bytes && new TextDecoder().decode(bytes);
      }),
    list: (path) => {
      if (!lists.has(path)) lists.set(path, attempt(path, (seen) => operations.list(seen)));
      return lists.get(path);
    },
    exists: (path) => attempt(path, (seen) => operations.targetStatus(seen) !== undefined) ?? false,
  };
}

/** The folders that lists take further plugins from are named after their networks. */
function foldersOf(
  operations: Operations,
  settings: Settings,
  files: readonly ConfFile[],
  readConf: (folder: string, name: string) => ConfFile | undefined,
  paths: Set<string>,
): ReadonlyMap<string, readonly ConfFile[]> {
  const folders = new Map<string, readonly ConfFile[]>();
  for (const file of files) {
    const name = file.name.endsWith(".conflist") ? networkNameOf(file) : undefined;
    if (!name || name.includes("/") || name.startsWith(".") || folders.has(name)) continue;
    const folder = `${settings.mountedNetDir}/${name}`;
    if (operations.targetStatus(folder)?.kind !== "directory") continue;
    const names = (operations.list(folder) ?? [])
      .filter((name) => isConfName(name) && name.endsWith(".conf"));
    for (const path of [folder, ...names.map((name) => `${folder}/${name}`)]) paths.add(path);
    folders.set(name, names.flatMap((name) => readConf(folder, name) ?? []));
  }
  return folders;
}

function networkNameOf(file: ConfFile): string | undefined {
  try {
    const { root } = jsonOf(file);
    return memberOf(root, "name") && stringMemberOf(root, "name");
  } catch {
    // What is not JSON names no folder.
    return undefined;
  }
}

/** Only CRI-O minds missing programs; those in folders that are not seen here count as there. */
function programsOf(
  operations: Operations,
  settings: Settings,
  runtime: Runtime,
  paths: Set<string>,
): (type: string) => boolean {
  if (runtime.kind !== "cri-o") return () => true;
  const isFolder = (path: string) => operations.targetStatus(path)?.kind === "directory";
  const { hostBinDir } = pathsOf(settings);
  const others = (runtime.programDirs ?? []).filter((folder) => folder !== hostBinDir)
    .map((folder) => seenPath(settings, folder));
  const isAllSeen = others.every(isFolder);
  const folders = [settings.mountedBinDir, ...others.filter(isFolder)];
  for (const folder of folders) paths.add(folder);
  return (type) =>
    type === pluginType || !isAllSeen ||
    folders.some((folder) => operations.targetStatus(`${folder}/${type}`)?.kind === "file");
}

function wrongFoldersOf(
  operations: Operations,
  settings: Settings,
  runtime: Runtime,
): Pick<RuntimeView, "wrongNetDir" | "wrongBinDir"> {
  const { confDir, programDirs, basis } = runtime;
  const { netDir, mountedNetDir, mountedBinDir } = settings;
  const { hostBinDir } = pathsOf(settings);
  const isSame = (host: string, own: string, mounted: string) => {
    const seen = seenPath(settings, host);
    return host === own || isOneFolder(operations, seen, mounted) ||
      // MicroK8s' containerd names the revision, and `current`, which leads there, is what we are given.
      (operations.targetStatus(seen) === undefined && currentOf(host) === own);
  };
  const isRead = confDir === undefined || isSame(confDir, netDir, mountedNetDir);
  const isSearched = programDirs === undefined ||
    programDirs.some((folder) => isSame(folder, hostBinDir, mountedBinDir));
  const searched = (programDirs ?? []).map((folder) => `"${folder}"`).join(", ");
  return {
    ...(isRead ? {} : {
      wrongNetDir:
        `The runtime reads "${confDir}" (${basis}), and CNI_NET_DIR is "${netDir}", so ` +
        "pods are not captured",
    }),
    ...(isSearched ? {} : {
      wrongBinDir: `The runtime looks for plugins in ${searched} (${basis}), and ours is in ` +
        `"${hostBinDir}" (kubernetes.cni_bin_dir in CNI_NETWORK_CONFIG)`,
    }),
  };
}

/** The path of a snap's folder by the link to the revision that runs. */
function currentOf(path: string): string {
  return path.replace(/^(\/var\/snap\/[^/]+)\/[^/]+\//, "$1/current/");
}

/** A host's folder can have several names, by links. */
function isOneFolder(operations: Operations, one: string, other: string): boolean {
  const [a, b] = [operations.targetStatus(one), operations.targetStatus(other)];
  return a !== undefined && a.kind === "directory" && a.inode === b?.inode;
}
