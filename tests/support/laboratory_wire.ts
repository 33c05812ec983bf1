/** The virtual wire of a laboratory, and the addresses at its ends. */
import {
  addLinkAddress,
  addRoute,
  createVethPair,
  type NamedNamespace,
  setLinkUp,
  writeSysctl,
} from "./topology.ts";

/** The wire's addresses; the pod is also reached at 127.0.0.1 and ::1 from inside. */
export const POD: Readonly<Record<"ipv4" | "ipv6", string>> = {
  ipv4: "10.93.0.2",
  ipv6: "fd93::2",
};

/** The remote host's address on the wire. */
export const PEER: Readonly<Record<"ipv4" | "ipv6", string>> = {
  ipv4: "10.93.0.3",
  ipv6: "fd93::3",
};

/**
 * Joins a pod and a remote host, which is the pod's gateway.
 *
 * @param peerAddresses more addresses of the remote host
 */
export function wire(
  pod: NamedNamespace,
  peer: NamedNamespace,
  peerAddresses: readonly string[],
): void {
  for (const namespace of [pod, peer]) {
    namespace.run(() => {
      for (const scope of ["all", "default"]) {
        writeSysctl(`net/ipv6/conf/${scope}/accept_dad`, "0");
      }
      liftIcmpLimits();
      setLinkUp("lo");
    });
  }
  pod.run(() => createVethPair("eth0", "eth0", peer.path));
  for (const [namespace, own] of [[pod, POD], [peer, PEER]] as const) {
    namespace.run(() => {
      setLinkUp("eth0");
      addLinkAddress("eth0", `${own.ipv4}/24`);
      addLinkAddress("eth0", `${own.ipv6}/64`);
    });
  }
  pod.run(() => {
    addRoute({ to: "default4", via: PEER.ipv4 });
    addRoute({ to: "default6", via: PEER.ipv6 });
  });
  peer.run(() => {
    // A router says that it knows no way, where a host would say nothing.
    writeSysctl("net/ipv4/ip_forward", "1");
    writeSysctl("net/ipv6/conf/all/forwarding", "1");
    for (const address of peerAddresses) {
      addLinkAddress("lo", `${address}/${address.includes(":") ? 128 : 32}`);
    }
  });
}

/** Refusals by ICMP must not get lost among thousands. Runs in the namespace. */
function liftIcmpLimits(): void {
  writeSysctl("net/ipv4/icmp_ratelimit", "0");
  writeSysctl("net/ipv6/icmp/ratelimit", "0");
  for (const name of ["icmp_msgs_per_sec", "icmp_msgs_burst"]) {
    try {
      writeSysctl(`net/ipv4/${name}`, "1000000");
    } catch (error) {
      // Kernels that have one such limit for the whole machine do not show it here.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}
