/** What a decision about the host is made of. */
import type { Attributes } from "../host/host_files.ts";
import type { Before } from "../host/journal.ts";

/** Why a step is needed; a bounded set, used as a label of metrics. */
export type Cause =
  | "binary-missing"
  | "binary-changed"
  | "kubeconfig-missing"
  | "kubeconfig-changed"
  | "token-rotated"
  | "entry-missing"
  | "entry-changed"
  | "entry-not-last"
  | "file-missing"
  | "file-changed"
  | "left-over";

/** One change of the host. */
export type Step =
  | { readonly kind: "install-plugin"; readonly cause: Cause }
  | {
    readonly kind: "write";
    readonly cause: Cause;
    /** File name in the net dir. */
    readonly name: string;
    /** What is there now; `undefined`: nothing. */
    readonly expected: Uint8Array | undefined;
    readonly content: Uint8Array<ArrayBuffer>;
    readonly attributes: Attributes;
    /** What uninstalling restores; `undefined`: the file is not journaled. */
    readonly before?: Before;
  }
  | {
    readonly kind: "remove";
    readonly cause: Cause;
    readonly name: string;
    readonly expected: Uint8Array | undefined;
  };

/** A decision. */
export interface Plan {
  readonly steps: readonly Step[];
  /** What another program or a person must do first. */
  readonly waitingFor?: string;
  /** What is needed cannot be read right now; until then what is installed stays as it is. */
  readonly isUnreadable?: boolean;
  /** Trouble that keeps pods from being captured although the steps are done. */
  readonly blocked?: string;
  /** Trouble that can wait. */
  readonly warnings: readonly string[];
  /** What a person should know once. */
  readonly remarks?: readonly string[];
  /** The file that carries or gets our entry. */
  readonly target?: string;
}
