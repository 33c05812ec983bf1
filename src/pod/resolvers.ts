/** Which DNS servers a pod asks, from whoever knows. */
import { MAX_NAMESERVERS, type PodDns } from "../kubernetes/pod.ts";

/** What is known about a pod's resolvers. */
export interface KnownResolvers {
  /** Those that the container runtime hands over; empty when it does not. */
  readonly resolvers: readonly string[];
  /** The cluster's DNS servers, from the network configuration. */
  readonly clusterDns?: readonly string[];
  /** The pod's own wishes; absent for the defaults. */
  readonly podDns?: PodDns;
}

/** A pod's resolvers as far as they are known. */
export interface FoundResolvers {
  /** As written; need not be addresses. */
  readonly resolvers: readonly string[];
  /** Where they came from, for people. */
  readonly origin: string;
  /** Why some or all are missing: a sentence for people. */
  readonly gap?: string;
}

const NOT_TOLD = "captureAll is off, and the container runtime did not tell the pod's resolvers " +
  '(containerd does for "capabilities": {"dns": true}, CRI-O and Multus never do)';

/**
 * Finds out a pod's resolvers. The runtime's word counts alone: it knows the `resolv.conf`. Else it is
 * what kubelet would write for the pod's `dnsPolicy` (Kubernetes, "DNS for Services and Pods").
 */
export function findResolvers(
  { resolvers, clusterDns = [], podDns }: KnownResolvers,
): FoundResolvers {
  if (resolvers.length > 0) return { resolvers, origin: "container runtime" };
  const { policy, nameservers } = podDns ?? { policy: "ClusterFirst", nameservers: [] };
  const own = { resolvers: nameservers, origin: "the pod's dnsConfig" };
  switch (policy) {
    case "None":
      return own;
    case "Default":
      return {
        ...own,
        gap: `DNS to the node's resolvers, which the pod asks by its dnsPolicy "Default", is not ` +
          `redirected: ${NOT_TOLD}; set captureAll`,
      };
  }
  if (clusterDns.length === 0) {
    return {
      ...own,
      gap: `DNS to the cluster's DNS servers is not redirected: ${NOT_TOLD}; set ` +
        `"kubernetes.cluster_dns" in CNI_NETWORK_CONFIG of install-cni to kubelet's clusterDNS, or ` +
        "captureAll",
    };
  }
  return {
    resolvers: [...clusterDns, ...nameservers].slice(0, MAX_NAMESERVERS),
    origin: "network configuration kubernetes.cluster_dns" +
      (nameservers.length === 0 ? "" : " + the pod's dnsConfig"),
  };
}
