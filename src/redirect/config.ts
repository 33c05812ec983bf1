/**
 * What must happen to a pod's packets, as plain validated data: the only input of the compiler.
 * Ports are 1–65535, UIDs 0–4294967294, addresses canonical text. Facts: `docs/` and the Kuma
 * transparent proxy configuration.
 */
import type { IpFamily } from "../ip/address.ts";
import type { Cidr } from "../ip/cidr.ts";

/** Families whose traffic is redirected. */
export type IpFamilyMode = "dualstack" | "ipv4" | "ipv6";

/**
 * The form of the DNS-over-TCP rules: `2.9` redirects an application's TCP DNS to the DNS proxy, `3`
 * (Kuma 2.14 and later) lets it go direct.
 */
export type RedirectRulesVersion = "2.9" | "3";

/** An inclusive range of ports or UIDs; a single value has `from === to`. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** "Traffic to these ports by these UIDs is not redirected." */
export interface UidExclusion {
  readonly protocol: "tcp" | "udp";
  readonly ports: readonly Range[];
  readonly uids: Range;
}

/** One direction of TCP redirection. */
export interface DirectionConfig {
  readonly enabled: boolean;
  /** Listener of the sidecar. */
  readonly port: number;
  /** Listener for IPv6 when it is another one; inbound only, Kuma up to 2.8. */
  readonly ipv6Port?: number;
  /** When not empty only these ports are redirected and `excludePorts` has no effect. */
  readonly includePorts: readonly number[];
  readonly excludePorts: readonly number[];
  /** Sources (inbound) or destinations (outbound) that are not redirected. */
  readonly excludeIps: readonly Cidr[];
  /** Only outbound rules can match an owner; inbound entries have been refused or dropped. */
  readonly excludeUids: readonly UidExclusion[];
  /** Put the jump rule before existing rules instead of after them. */
  readonly insertInsteadOfAppend: boolean;
}

/** Redirection of DNS to the sidecar's DNS proxy. */
export interface DnsConfig {
  readonly enabled: boolean;
  readonly port: number;
  /** All port 53 traffic, instead of only that to `servers`. */
  readonly captureAll: boolean;
  /** Resolvers of the pod, both families; used when not `captureAll`. */
  readonly servers: readonly { readonly family: IpFamily; readonly address: string }[];
  readonly skipConntrackZoneSplit: boolean;
}

/** Traffic of a virtual network inside the pod (for example a VM's) that is redirected too. */
export interface VirtualNetwork {
  /** Interface name; a trailing `+` matches every name with that beginning. */
  readonly interfaceName: string;
  readonly cidr: Cidr;
}

/** The complete, validated configuration of one pod's redirection. */
export interface RedirectConfig {
  readonly rulesVersion: RedirectRulesVersion;
  readonly ipFamilyMode: IpFamilyMode;
  /** UID of the sidecar, whose own traffic is not redirected. */
  readonly sidecarUid: number;
  readonly inbound: DirectionConfig;
  readonly outbound: DirectionConfig;
  readonly dns: DnsConfig;
  readonly virtualNetworks: readonly VirtualNetwork[];
  readonly dropInvalidPackets: boolean;
  readonly log: { readonly enabled: boolean; readonly level: number };
  readonly comments: boolean;
}
