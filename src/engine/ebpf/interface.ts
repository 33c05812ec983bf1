/**
 * What the eBPF engine offers to those who choose an engine and look after pods' lives. The engine
 * itself is loaded only where somebody asks for it: `await import("./ebpf_engine.ts")`.
 */

import type { Ruleset } from "../../redirect/ruleset.ts";
import type { Engine } from "../engine.ts";
import type { RedirectCounts } from "../redirect_counts.ts";

/** What is compared first: programs at a pod's cgroup may be those of another sandbox of the pod. */
export const PROGRAMS_NAMESPACE = "network namespace of the BPF programs";

/** How a pod's incoming connections reach the sidecar. */
export type InboundWay = "sk_lookup" | "nftables";

/** Where an engine works. The network namespace is the one that the calling thread is in. */
export interface EbpfEngineOptions {
  /** Folder of the pod's own cgroup in a cgroup2 file system. */
  readonly cgroup: string;
  /**
   * Folder in a BPF file system that holds the pins of this sandbox alone, see `pinFolderOf`. It is
   * made when needed. Without it incoming connections are redirected by nftables.
   */
  readonly pinFolder?: string;
  /** Only tests and measurements need any; the kernel's and the node's abilities decide unless told. */
  readonly inbound?: InboundWay;
}

/** What happened in a pod so far, as its programs counted it. */
export interface EbpfCounters extends RedirectCounts {
  /** Incoming connections that were refused since the sidecar did not listen. */
  readonly refused: number;
  /** Connections whose original destination could not be kept; the sidecar does not get to know it. */
  readonly lost: number;
  /** Each program, with what the kernel counts where `kernel.bpf_stats_enabled` is set. */
  readonly programs: readonly EbpfProgramCounters[];
}

/** One program in the kernel. */
export interface EbpfProgramCounters {
  readonly name: string;
  readonly id: number;
  readonly runs: number;
  readonly nanoseconds: number;
}

/** A pin that {@linkcode EbpfModule.sweepPins} looked at. */
export interface SweptPin {
  /** Name of the pin folder, which is the sandbox's container ID. */
  readonly containerId: string;
  readonly removed: boolean;
  /** Why it stays or went. */
  readonly reason: string;
}

/** The exports of `./ebpf_engine.ts`. All are synchronous and need `--allow-ffi`. */
export interface EbpfModule {
  readonly EbpfEngine: new (options: EbpfEngineOptions) => Engine;
  /**
   * Tells what of a ruleset this engine cannot do: the reasons, one sentence each, or nothing. Such a
   * ruleset makes `apply` and `verify` throw an `EngineError` with the same words.
   */
  cannot(ruleset: Ruleset): readonly string[];
  /** The folder of a sandbox's pins: `<bpffs>/kuma-cni/<container ID>`. */
  pinFolderOf(bpffs: string, containerId: string): string;
  /**
   * Removes a sandbox's pins; its programs go with the cgroup. Not there is fine.
   *
   * @returns whether there was any
   */
  unpin(pinFolder: string): boolean;
  /** Removes the pins whose network namespace is gone. */
  sweepPins(bpffs: string): readonly SweptPin[];
  /** Reads what the programs of a pod's cgroup have counted; nothing when there are none of ours. */
  readCounters(cgroup: string): EbpfCounters | undefined;
}
