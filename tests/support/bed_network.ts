/**
 * The namespaces of the traffic bed and the wires between them: a router with a bridge, a pod, and
 * a remote host that also owns the cluster's DNS service address.
 */
import {
  addLinkAddress,
  addRoute,
  attachToBridge,
  createBridge,
  createNamespace,
  createVethPair,
  deleteNamespace,
  type NamedNamespace,
  NETNS_FOLDER,
  setLinkUp,
  uniqueName,
  writeSysctl,
} from "./topology.ts";

/** Who has which address; nobody has `nowhere`. */
export const ADDRESSES = {
  ipv4: {
    router: "10.93.0.1",
    pod: "10.93.0.2",
    peer: "10.93.0.3",
    dns: "10.96.0.10",
    nowhere: "10.99.9.9",
  },
  ipv6: {
    router: "fd93::1",
    pod: "fd93::2",
    peer: "fd93::3",
    dns: "fd96::10",
    nowhere: "fd99::9",
  },
} as const;

/** Choices for the network. */
export interface BedNetworkOptions {
  /** Whether the pod has IPv6 at all; it does unless told. */
  readonly ipv6?: boolean;
}

const PREFIX = "kuma-bed-";

/** The wired namespaces; dispose of it to remove them. */
export class BedNetwork implements Disposable {
  readonly #namespaces: NamedNamespace[] = [];
  readonly #router: NamedNamespace;
  readonly #pod: NamedNamespace;
  readonly #peer: NamedNamespace;

  private constructor(options: BedNetworkOptions) {
    const name = uniqueName(`${PREFIX}${Deno.pid}-`);
    const make = (role: string): NamedNamespace => {
      const namespace = createNamespace(`${name}-${role}`);
      this.#namespaces.push(namespace);
      return namespace;
    };
    try {
      this.#router = make("router");
      this.#pod = make("pod");
      this.#peer = make("peer");
      this.#wire(options.ipv6 ?? true);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Makes the namespaces, after removing those that killed processes left. */
  static create(options: BedNetworkOptions = {}): BedNetwork {
    sweepLeftovers();
    return new BedNetwork(options);
  }

  /** Path of the pod's namespace, as runtimes write it (`/var/run` is a link to `/run`). */
  get pod(): string {
    return `/var${this.#pod.path}`;
  }

  /** Path of the remote host's namespace. */
  get peer(): string {
    return this.#peer.path;
  }

  #wire(ipv6: boolean): void {
    for (const namespace of this.#namespaces) {
      namespace.run(() => {
        for (const scope of ["all", "default"]) writeIpv6Sysctl(`${scope}/accept_dad`, "0");
        setLinkUp("lo");
      });
    }
    if (!ipv6) {
      this.#pod.run(() => {
        for (const scope of ["all", "default"]) writeIpv6Sysctl(`${scope}/disable_ipv6`, "1");
      });
    }
    this.#router.run(() => {
      writeSysctl("net/ipv4/ip_forward", "1");
      writeIpv6Sysctl("all/forwarding", "1");
      // "No way there" must be said at once, every time.
      writeSysctl("net/ipv4/icmp_ratelimit", "0");
      writeSysctl("net/ipv6/icmp/ratelimit", "0");
      createBridge("br0");
      setLinkUp("br0");
      addLinkAddress("br0", `${ADDRESSES.ipv4.router}/24`);
      addLinkAddress("br0", `${ADDRESSES.ipv6.router}/64`);
      this.#plug("pod", this.#pod);
      this.#plug("peer", this.#peer);
    });
    this.#connect("pod", this.#pod, ipv6);
    this.#connect("peer", this.#peer, true);
    this.#peer.run(() => {
      addLinkAddress("lo", `${ADDRESSES.ipv4.dns}/32`);
      addLinkAddress("lo", `${ADDRESSES.ipv6.dns}/128`);
    });
    this.#router.run(() => {
      addRoute({ to: `${ADDRESSES.ipv4.dns}/32`, via: ADDRESSES.ipv4.peer });
      addRoute({ to: `${ADDRESSES.ipv6.dns}/128`, via: ADDRESSES.ipv6.peer });
    });
  }

  /** Wires a namespace to the bridge; runs in the router. */
  #plug(port: string, namespace: NamedNamespace): void {
    createVethPair(port, "eth0", namespace.path);
    attachToBridge(port, "br0");
    setLinkUp(port);
  }

  #connect(role: "pod" | "peer", namespace: NamedNamespace, ipv6: boolean): void {
    namespace.run(() => {
      setLinkUp("eth0");
      addLinkAddress("eth0", `${ADDRESSES.ipv4[role]}/24`);
      addRoute({ to: "default4", via: ADDRESSES.ipv4.router });
      if (!ipv6) return;
      addLinkAddress("eth0", `${ADDRESSES.ipv6[role]}/64`);
      addRoute({ to: "default6", via: ADDRESSES.ipv6.router });
    });
  }

  [Symbol.dispose](): void {
    for (const namespace of this.#namespaces) namespace[Symbol.dispose]();
  }
}

function writeIpv6Sysctl(name: string, value: string): void {
  writeSysctl(`net/ipv6/conf/${name}`, value);
}

/** Removes the namespaces of beds whose process is gone. */
function sweepLeftovers(): void {
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(NETNS_FOLDER)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  for (const { name } of entries) {
    const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    if (owner !== undefined && !isAlive(owner)) deleteNamespace(name);
  }
}

function isAlive(pid: string): boolean {
  try {
    Deno.statSync(`/proc/${pid}`);
    return true;
  } catch {
    return false;
  }
}
