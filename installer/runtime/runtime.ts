/** What is known of the program that calls CNI plugins on this node. */

/** Who decides which file of the net dir is used. */
export type RuntimeKind = "containerd" | "cri-o" | "multus";

/** The runtime, as far as it is known. */
export interface Runtime {
  readonly kind: RuntimeKind;
  /** Whether a setting or a file of the host says so; else it is assumed. */
  readonly isCertain: boolean;
  /** How that is known, in words for people. */
  readonly basis: string;
  /** containerd: how many files it loads; 0: all. */
  readonly maxConfNum: number;
  /** CRI-O: the name of the network for all pods; `""`: the first one. */
  readonly defaultNetwork: string;
  /** Path of its net dir on the host, where its configuration tells. */
  readonly confDir?: string;
  /** Paths of the plugins' folders on the host, where its configuration tells. */
  readonly programDirs?: readonly string[];
  /** What is odd about its configuration. */
  readonly warnings: readonly string[];
}

/** The runtime that is assumed when nothing tells: Kubernetes' most common one, with its defaults. */
export function assumedRuntime(kind: RuntimeKind, basis: string, isCertain: boolean): Runtime {
  return { kind, isCertain, basis, maxConfNum: 1, defaultNetwork: "", warnings: [] };
}

/** Name of a runtime for people. */
export function nameOf(runtime: Runtime): string {
  return { containerd: "containerd", "cri-o": "CRI-O", multus: "Multus" }[runtime.kind];
}

/** Whether a list beside a single plugin's file would be one more network. */
export function loadsSeveralFiles(runtime: Runtime): boolean {
  return runtime.kind === "containerd" && runtime.maxConfNum !== 1;
}
