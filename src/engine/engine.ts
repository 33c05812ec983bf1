/** The one interface of all engines: make the kernel do what a ruleset says, and prove it. */
import type { IpFamily } from "../ip/address.ts";
import type { Ruleset } from "../redirect/ruleset.ts";

/** Name of an engine. */
export type EngineName = "nftables" | "iptables" | "ebpf";

/** One difference between what should be installed and what is. */
export interface Difference {
  readonly kind: "missing" | "unexpected" | "changed";
  /** Where, for example `ip nat KUMA_MESH_OUTBOUND rule 3 (M4)`. */
  readonly object: string;
  readonly expected?: string;
  readonly actual?: string;
}

/** What an apply did. */
export interface ApplyResult {
  readonly engine: EngineName;
  /** Which of its ways an engine went, where it has several: iptables' `nft` or `legacy`. */
  readonly backend?: string;
  readonly families: readonly IpFamily[];
  readonly ruleCount: number;
  /** Things worth a log line that did not stop the apply. */
  readonly notes: readonly string[];
}

/**
 * An engine. Every method is synchronous and acts on the network namespace that the calling thread
 * is in: the caller enters it, and nothing in between may await.
 */
export interface Engine {
  readonly name: EngineName;
  /**
   * Installs the ruleset in place of what this engine installed before, all families or none, reads
   * it back and compares.
   *
   * @throws {EngineError} when the kernel or a tool refuses or the read-back differs; nothing of the
   * new ruleset is left then.
   */
  apply(ruleset: Ruleset): ApplyResult;
  /** Compares what is installed with the ruleset; an empty list means equal. */
  verify(ruleset: Ruleset): readonly Difference[];
  /** Removes all that this engine ever installed, nobody else's; tells whether there was any. */
  remove(): boolean;
}

/** An engine could not do what was asked; the message names object, expected, actual and the fix. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  constructor(
    message: string,
    readonly engine: EngineName,
    options?: { cause?: unknown; differences?: readonly Difference[] },
  ) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.differences = options?.differences ?? [];
  }
  readonly differences: readonly Difference[];
}
