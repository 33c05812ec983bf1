/** One way in which a node breaks, and what doctor must say of it. */
import type { FindingCode } from "../../installer/doctor/catalogue.ts";
import type { DoctorBed, DoctorNode } from "./doctor_bed.ts";
import type { AdvisedCluster } from "./advised_cluster.ts";
import type { Surrounding } from "./surroundings.ts";

/** What the command that is advised with a finding does to it. */
export type Fix =
  /** It goes away: the command is run, and doctor asked again. */
  | "cures"
  /** It goes away when somebody acts upon what the command shows. */
  | "shows"
  /** It stays, and no longer matters. */
  | { readonly eases: (cluster: AdvisedCluster) => void }
  /** There is none to give: the finding's own words say what to do, or it is no trouble. */
  | "none";

/** A broken node. */
export interface BrokenNode {
  readonly node?: DoctorNode | (() => DoctorNode);
  /** The pod that is asked about, as `namespace/name`. */
  readonly pod?: string;
  /** What it returns is undone afterwards. */
  readonly breaks?: (bed: DoctorBed) => void | Disposable | Promise<void>;
  /** Namespaces that doctor runs in, and shell lines that prepare them. */
  readonly within?: {
    readonly kinds: readonly Surrounding[];
    readonly setup: (bed: DoctorBed) => string;
  };
  /** Whether doctor takes its mounts for the host's, as beside the host's processes. */
  readonly isOnHost?: boolean;
  /** Words in front of the program. */
  readonly behind?: readonly string[];
  /** Failures and warnings that are found, exactly these, the most probable first. */
  readonly finds: readonly FindingCode[];
  /** Notes and what is unknown, that are found among others. */
  readonly notes?: readonly FindingCode[];
  /** What the verdict says. */
  readonly says: RegExp;
  /** The finding whose advice is tried; unless told the first one, or, where nothing is wrong, the first note. */
  readonly about?: FindingCode;
  /** What the advice does; `cures` unless told. */
  readonly fix?: Fix;
}
