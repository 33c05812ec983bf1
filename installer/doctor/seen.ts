/** What the doctor has seen of a node before it judges: plain values, which tests build by hand. */
import type { ConnectionState } from "../../src/kubernetes/connection_state.ts";
import type { NetworkSettings } from "../../src/cni/settings.ts";
import type { Change } from "../host/changes.ts";
import { errorText } from "../host/error_text.ts";
import type { Observed } from "../host/observe.ts";
import type { Plan } from "../plan/steps.ts";
import type { Settings } from "../settings/declarations.ts";

/** A look that was not possible, and why. */
export interface Impossible {
  readonly impossible: string;
}

/** Says why a look was not possible. */
export function impossible(error: unknown): Impossible {
  return { impossible: errorText(error) };
}

/** Tells whether a look was not possible. */
export function isImpossible(look: unknown): look is Impossible {
  return typeof look === "object" && look !== null && "impossible" in look;
}

/** Our entry as it stands in a file of the net dir. */
export interface EntrySeen {
  readonly file: string;
  /** Plugins of the list, in order. */
  readonly types: readonly string[];
  /** The entry's settings; `undefined`: the plugin would refuse it. */
  readonly settings?: NetworkSettings;
  readonly problem?: string;
}

/** What the kernel can do. */
export interface KernelSeen {
  readonly release: string;
  readonly nftables: boolean | Impossible;
  readonly ipv6: boolean;
  /** How many user namespaces there may be; `undefined`: the kernel has none. */
  readonly userNamespaces: number | undefined;
  readonly cgroup2: boolean;
  /** Whether a BPF file system is mounted; `undefined`: a container does not see it. */
  readonly bpf: boolean | undefined;
}

/** The two folders, as mounts. */
export interface FoldersSeen {
  /** Folders that are no longer those at their paths on the host, by their paths there. */
  readonly moved: readonly string[];
  /** Type of the file system that the net dir is on, as `tmpfs`. */
  readonly netDirFileSystem: string | undefined;
}

/** What other software has left on the host. */
export interface TracesSeen {
  /** Files that Cilium has put aside, and whether one has our entry. */
  readonly ciliumBackups: readonly { readonly name: string; readonly hasEntry: boolean }[];
  /** Where Cilium's socket load balancing works; `undefined`: it does not, or is not seen. */
  readonly socketLoadBalancing: "everywhere" | "host" | undefined;
  /** DNS servers that kubelet gives to pods; `undefined`: not seen. */
  readonly kubeletDns: readonly string[] | undefined;
}

/** The token that the plugin uses. */
export interface TokenSeen {
  /** Milliseconds since the epoch; `undefined`: the token does not say. */
  readonly issued: number | undefined;
  readonly expires: number | undefined;
}

/** A right of the plugin's account in all namespaces. */
export interface RightSeen {
  readonly verb: "get" | "list" | "watch";
  readonly allowed: boolean;
}

/** Milliseconds from which on an answer is slow: a pod waits for it before it starts. */
export const slowMilliseconds = 500;

/** How the API server answers the plugin's account. */
export interface ApiSeen {
  readonly server: string;
  readonly state: Pick<ConnectionState, "problem" | "problemSince" | "forbidden">;
  /** Milliseconds until its answer; `undefined`: there was none. */
  readonly milliseconds: number | undefined;
  readonly rights: readonly RightSeen[] | Impossible;
}

/** The running node agent. */
export interface AgentSeen {
  /** Whether it answers at its socket; a reason if not. */
  readonly socket: true | string;
  /** What it says about itself over HTTP; `undefined`: it is not set up to. */
  readonly readiness: { readonly ready: boolean; readonly reason: string } | Impossible | undefined;
}

/** A pod of this node. */
export interface PodSeen {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** Whether it should have rules. */
  readonly meshed: boolean;
  /** Whether its rules were installed; `undefined`: nothing tells. */
  readonly captured: boolean | undefined;
  /** Why, in words. */
  readonly reason: string;
}

/** Everything that the doctor has seen of a node. */
export interface NodeSeen {
  readonly settings: Settings;
  readonly observed: Observed;
  /** What install-cni would do; `undefined` when its settings are not known. */
  readonly plan: Plan | undefined;
  readonly entries: readonly EntrySeen[];
  readonly kernel: KernelSeen;
  readonly folders: FoldersSeen;
  readonly traces: TracesSeen;
  readonly token: TokenSeen | Impossible;
  readonly api: ApiSeen | Impossible;
  readonly agent: AgentSeen;
  readonly changes: readonly Change[];
  /** Whether the plugin's program is in the bin dir at all. */
  readonly hasProgram: boolean;
  readonly pods: readonly PodSeen[] | Impossible;
}
