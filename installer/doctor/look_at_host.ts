/** Looks at the node itself for the doctor: bounded reads of files, nothing is changed. */
import { readGeneration } from "../../src/engine/nftables/read_back.ts";
import { LinuxError } from "../../src/linux/errno.ts";
import { readKernelFile } from "../../src/linux/kernel_file.ts";
import { parseMounts } from "../../src/linux/mounts.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../src/linux/netlink.ts";
import { readPluginSettings } from "../../src/cni/plugin_settings.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { type ConfFile, jsonOf } from "../conflist/conf_file.ts";
import { pluginType } from "../conflist/conflist.ts";
import {
  bytesOf,
  fieldOf,
  JsonError,
  type JsonNode,
  stringFieldOf,
} from "../conflist/json_edit.ts";
import { fileSystemOf, isInHostPidNamespace } from "../host/bin_dir_path.ts";
import type { Operations } from "../host/operations.ts";
import { seenPath } from "../host/runtime_view.ts";
import { mentionOf } from "../runtime/mentions.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import {
  type EntrySeen,
  type FoldersSeen,
  type Impossible,
  impossible,
  type KernelSeen,
  type TracesSeen,
} from "./seen.ts";

/** Bound of a file that is looked at, in bytes. */
const sizeLimit = 1 << 20;

/** Looks at the kernel, from this process's namespaces. */
export function lookAtKernel(): KernelSeen {
  const number = (path: string) => Number(kernelText(path) ?? NaN);
  const namespaces = number("/proc/sys/user/max_user_namespaces");
  return {
    release: Deno.osRelease(),
    nftables: hasNftables(),
    ipv6: kernelText("/proc/net/if_inet6") !== undefined &&
      number("/proc/sys/net/ipv6/conf/all/disable_ipv6") === 0,
    userNamespaces: Number.isNaN(namespaces) ? undefined : namespaces,
    cgroup2: isMounted("cgroup2"),
    bpf: isMounted("bpf") || (isInHostPidNamespace() ? false : undefined),
  };
}

/** What says that the kernel has no Netfilter netlink, or no nf_tables behind it. */
const absences: readonly string[] = ["EPROTONOSUPPORT", "EAFNOSUPPORT"];

/** nf_tables answers who may administer the network; others it tells nothing. */
function hasNftables(): boolean | Impossible {
  try {
    using socket = new NetlinkSocket(NETLINK_NETFILTER);
    readGeneration(socket);
    return true;
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    if (absences.includes(error.code)) return false;
    // A security module, or a lack of memory, says nothing about the kernel.
    return error.code === "EPERM"
      ? { impossible: "it takes CAP_NET_ADMIN, which this container does not have" }
      : impossible(error);
  }
}

function isMounted(type: string): boolean {
  return parseMounts(kernelText("/proc/self/mountinfo") ?? "").some((mount) => mount.type === type);
}

function kernelText(path: string): string | undefined {
  try {
    return readKernelFile(path);
  } catch {
    return undefined;
  }
}

/** Looks at the net dir and the bin dir as mounts. */
export function lookAtFolders(operations: Operations, settings: Settings): FoldersSeen {
  const { netDir, mountedNetDir, mountedBinDir } = settings;
  const moved = ([[netDir, mountedNetDir], [pathsOf(settings).hostBinDir, mountedBinDir]] as const)
    .filter(([host, mounted]) => {
      const there = operations.targetStatus(seenPath(settings, host));
      const here = operations.targetStatus(mounted);
      // A path of the host is seen only where its folder, or one above, is mounted.
      return there?.kind === "directory" && here?.kind === "directory" &&
        there.inode !== here.inode;
    });
  return {
    moved: moved.map(([host]) => host),
    netDirFileSystem: fileSystemOf(mountedNetDir, kernelText("/proc/self/mountinfo") ?? ""),
  };
}

/** Finds our entry in the files of the net dir. */
export function lookAtEntries(files: readonly ConfFile[]): EntrySeen[] {
  return files.flatMap((file): EntrySeen[] => {
    let root: JsonNode;
    try {
      root = jsonOf(file).root;
    } catch (error) {
      if (error instanceof JsonError) return [];
      throw error;
    }
    const list = fieldOf(root, "plugins");
    const plugins = list?.kind === "array" ? list.items : [root];
    const types = plugins.map((plugin) => stringFieldOf(plugin, "type") ?? "");
    const own = plugins[types.indexOf(pluginType)];
    if (own === undefined) return [];
    try {
      const text = new TextDecoder().decode(bytesOf(file.text!.slice(own.start, own.end)));
      return [{ file: file.name, types, settings: readPluginSettings(JSON.parse(text)).settings }];
    } catch (error) {
      return [{ file: file.name, types, problem: messageOf(error) }];
    }
  });
}

/** Looks for what other software has left. */
export function lookAtTraces(operations: Operations, settings: Settings): TracesSeen {
  const text = (path: string) => textOf(operations, path);
  const backups = (operations.list(settings.mountedNetDir) ?? [])
    .filter((name) => name.endsWith(".cilium_bak")).slice(0, 100);
  const cilium = text(seenPath(settings, "/run/cilium/state/globals/node_config.h")) ??
    text(seenPath(settings, "/var/run/cilium/state/globals/node_config.h"));
  const kubelet = text(seenPath(settings, "/var/lib/kubelet/config.yaml"));
  return {
    ciliumBackups: backups.map((name) => ({
      name,
      hasEntry: mentionOf(text(`${settings.mountedNetDir}/${name}`) ?? "{}") !== undefined,
    })),
    socketLoadBalancing: cilium?.includes("ENABLE_SOCKET_LB_FULL")
      ? "everywhere"
      : cilium?.includes("ENABLE_SOCKET_LB_HOST_ONLY")
      ? "host"
      : undefined,
    kubeletDns: kubelet === undefined ? undefined : dnsOf(kubelet),
  };
}

/** The list `clusterDNS` of kubelet's configuration, of which nothing else is of interest. */
function dnsOf(yaml: string): string[] {
  const list = /^clusterDNS:[ \t]*((?:\n[ \t]*-[^\n]*)+|\[[^\]\n]*\])/m.exec(yaml)?.[1] ?? "";
  return list.match(/[0-9a-fA-F:.]*[:.][0-9a-fA-F:.]+/g) ?? [];
}

function textOf(operations: Operations, path: string): string | undefined {
  try {
    const status = operations.targetStatus(path);
    if (status?.kind !== "file" || status.size > sizeLimit) return undefined;
    const bytes = operations.read(path);
    return bytes && new TextDecoder().decode(bytes);
  } catch {
    // What may not be read tells nothing.
    return undefined;
  }
}
