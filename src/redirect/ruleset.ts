/**
 * The engine-neutral form of the rules: what both engines install, the evaluator walks and a person
 * reads. Tables, hooks and verdicts carry netfilter's names.
 */
import type { Range } from "./config.ts";
import type { Cidr } from "../ip/cidr.ts";
import type { IpFamily } from "../ip/address.ts";

/** Tables in the order in which a packet meets them. */
export type TableName = "raw" | "mangle" | "nat";

/** Built-in chains in use. */
export type BaseChainName = "PREROUTING" | "OUTPUT";

/** One condition of a rule; all of a rule's conditions must hold. */
export type Match =
  | { readonly kind: "protocol"; readonly protocol: "tcp" | "udp" }
  | {
    readonly kind: "source-port" | "destination-port";
    /** One range, or several (`multiport`). */
    readonly ports: readonly Range[];
    readonly negated: boolean;
    /** Written as iptables' `multiport` match even for a single port. */
    readonly multiport: boolean;
  }
  | {
    readonly kind: "source-address" | "destination-address";
    readonly cidr: Cidr;
    readonly negated: boolean;
  }
  | {
    readonly kind: "input-interface" | "output-interface";
    /** A trailing `+` matches every name with that beginning. */
    readonly name: string;
  }
  | { readonly kind: "owner"; readonly uids: Range; readonly negated: boolean }
  | { readonly kind: "conntrack-state"; readonly state: "invalid" };

/** What a rule does with a packet that it matches. */
export type Verdict =
  | { readonly kind: "return" }
  | { readonly kind: "drop" }
  | { readonly kind: "jump"; readonly chain: string }
  | { readonly kind: "redirect"; readonly port: number }
  | { readonly kind: "conntrack-zone"; readonly zone: number }
  | { readonly kind: "log"; readonly prefix: string; readonly level: number };

/** One rule. Order within its chain is the order of evaluation. */
export interface Rule {
  /** Which rule of the reference table this is, for example `M4`; shown by `explain`. */
  readonly id: string;
  /** Why it is there, one sentence without the comment prefix; at most 200 ASCII characters. */
  readonly comment: string;
  readonly matches: readonly Match[];
  readonly verdict: Verdict;
  /**
   * Relation to rules that others put into the same base chain: `insert` goes before them,
   * `append` after. Rules with `insert` stand before those with `append` in a chain unless listed
   * otherwise.
   */
  readonly placement: "insert" | "append";
}

/** A chain and its rules; `hook` is set for built-in chains. */
export interface Chain {
  readonly name: string;
  readonly base: boolean;
  readonly rules: readonly Rule[];
}

/** A table with its chains: base chains first (PREROUTING, OUTPUT), then our own in creation order. */
export interface Table {
  readonly name: TableName;
  readonly chains: readonly Chain[];
}

/** The rules of one IP family; tables without rules are left out. */
export interface FamilyRuleset {
  readonly family: IpFamily;
  readonly tables: readonly Table[];
}

/** Everything that is installed for a pod, in one transaction. */
export interface Ruleset {
  readonly families: readonly FamilyRuleset[];
  /** Whether rules carry their comments. */
  readonly comments: boolean;
  /** `::6/128` must be on `lo`: the sidecar's inbound passthrough connections come from it. */
  readonly ipv6PassthroughAddress: boolean;
}

/** Facts about a network namespace that change the rules. */
export interface NamespaceFacts {
  /** Name of the loopback interface, normally `lo`. */
  readonly loopback: string;
  /** Whether the namespace can carry IPv6 traffic at all. */
  readonly ipv6: boolean;
  /** A chain `DOCKER_OUTPUT` exists in the nat table of that family. */
  readonly dockerOutput: Readonly<Record<IpFamily, boolean>>;
  /** Conntrack zones can be assigned. */
  readonly conntrackZones: boolean;
}

/** Prefix of our chains, as in the reference implementation. */
export const CHAIN_PREFIX = "KUMA_MESH";

/** Prefix of our rule comments, as in the reference implementation. */
export const COMMENT_PREFIX = "kuma/mesh/transparent/proxy/";
