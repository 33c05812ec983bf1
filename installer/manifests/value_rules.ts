/** Rules about several values at once; each value's own are in its declaration. */

/** A value is this very one, or its text fits a pattern. */
export type Condition = { readonly is: unknown } | { readonly fits: string };

/** A rule about several values at once. */
export interface ValueRule {
  /** The value whose fault it is called. */
  readonly path: string;
  /** Completes "expected …". */
  readonly expected: string;
  /** The rule is broken when all of these hold. */
  readonly brokenBy: Readonly<Record<string, Condition>>;
}

/** All rules about several values. */
export const valueRules: readonly ValueRule[] = [
  {
    path: "cni.confName",
    expected: "the file of the network plugin to chain to, since cni.chained is true; " +
      '"" follows the one that the runtime loads',
    brokenBy: { "cni.chained": { is: true }, "cni.confName": { is: "kuma-cni.conf" } },
  },
  {
    path: "cni.confName",
    expected: "a name ending in .conf, since cni.chained is false and a .conflist holds a list",
    brokenBy: { "cni.chained": { is: false }, "cni.confName": { fits: "\\.conflist$" } },
  },
  {
    path: "cni.healthPort",
    expected: "a port, such as 9910, since cni.monitoring.podMonitor is true",
    brokenBy: { "cni.monitoring.podMonitor": { is: true }, "cni.healthPort": { is: 0 } },
  },
  {
    path: "cni.healthPort",
    expected: "a port, such as 9910, since cni.monitoring.serviceMonitor is true",
    brokenBy: { "cni.monitoring.serviceMonitor": { is: true }, "cni.healthPort": { is: 0 } },
  },
  {
    path: "cni.engine",
    expected: "auto or ebpf, since experimental.ebpf.enabled is true",
    brokenBy: {
      "experimental.ebpf.enabled": { is: true },
      "cni.engine": { fits: "^(nftables|iptables)$" },
    },
  },
];
