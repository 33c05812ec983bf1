/** A virtual network inside a pod, as a virtual machine's: one guest behind a link of its own. */
import {
  addLinkAddress,
  addRoute,
  createNamespace,
  createVethPair,
  type NamedNamespace,
  setLinkUp,
  writeSysctl,
} from "./topology.ts";

/** A guest and its network. */
export interface GuestOptions {
  /** Name of the pod's end of the link. */
  readonly interfaceName: string;
  /** First three numbers of the IPv4 network `/24`: the pod is `.1` there, the guest `.2`. */
  readonly network4: string;
  /** First part of the IPv6 network `/64`: the pod is `::1` there, the guest `::2`. */
  readonly network6: string;
}

/** The pod's own addresses in a guest's network. */
export function gatewayAddresses(guest: GuestOptions): Readonly<Record<"ipv4" | "ipv6", string>> {
  return { ipv4: `${guest.network4}.1`, ipv6: `${guest.network6}::1` };
}

/** The guest's own addresses. */
export function guestAddresses(guest: GuestOptions): Readonly<Record<"ipv4" | "ipv6", string>> {
  return { ipv4: `${guest.network4}.2`, ipv6: `${guest.network6}::2` };
}

/**
 * Makes a guest's namespace, its link to the pod and the ways between the guest and a remote host.
 *
 * @param podAddresses the pod's addresses as the remote host knows them
 */
export function addGuest(
  pod: NamedNamespace,
  peer: NamedNamespace,
  podAddresses: Readonly<Record<"ipv4" | "ipv6", string>>,
  guest: GuestOptions,
): NamedNamespace {
  const namespace = createNamespace(pod.name.replace(/pod$/, guest.interfaceName));
  const { interfaceName, network4, network6 } = guest;
  const gateway = gatewayAddresses(guest);
  const own = guestAddresses(guest);
  try {
    pod.run(() => {
      writeSysctl("net/ipv4/ip_forward", "1");
      writeSysctl("net/ipv6/conf/all/forwarding", "1");
      createVethPair(interfaceName, "eth0", namespace.path);
      setLinkUp(interfaceName);
      addLinkAddress(interfaceName, `${gateway.ipv4}/24`);
      addLinkAddress(interfaceName, `${gateway.ipv6}/64`);
    });
    namespace.run(() => {
      writeSysctl("net/ipv6/conf/all/accept_dad", "0");
      setLinkUp("lo");
      setLinkUp("eth0");
      addLinkAddress("eth0", `${own.ipv4}/24`);
      addLinkAddress("eth0", `${own.ipv6}/64`);
      addRoute({ to: "default4", via: gateway.ipv4 });
      addRoute({ to: "default6", via: gateway.ipv6 });
    });
    peer.run(() => {
      addRoute({ to: `${network4}.0/24`, via: podAddresses.ipv4 });
      addRoute({ to: `${network6}::/64`, via: podAddresses.ipv6 });
    });
    return namespace;
  } catch (error) {
    namespace[Symbol.dispose]();
    throw error;
  }
}
