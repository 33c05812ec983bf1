/**
 * A fast place to try rules with real packets: a pod and a remote host in namespaces of their own,
 * joined by one virtual wire, with every listener and every client held by this thread. A probe
 * starts no process, so that thousands of them can be made per second. The remote host is the pod's
 * gateway and can own any number of addresses.
 */
import { LinuxError } from "../../src/linux/errno.ts";
import {
  bindUdp,
  createTcpSocket,
  type Endpoint,
  listenTcp,
  poll,
  startTcpConnect,
  type TcpListener,
  type TcpSocket,
  type UdpSocket,
  withFileSystemUser,
} from "./sockets.ts";
import { type PodCgroup, withRealUser } from "./pod_cgroup.ts";
import { createNamespace, type NamedNamespace, uniqueName } from "./topology.ts";
import { PEER, POD, wire } from "./laboratory_wire.ts";
import { RawTcpSocket } from "./stray_packet.ts";
import {
  addGuest,
  gatewayAddresses,
  guestAddresses,
  type GuestOptions,
} from "./virtual_network.ts";

export { PEER, POD };

/** What a laboratory has, besides addresses of {@linkcode POD} and {@linkcode PEER}. */
export interface LaboratoryOptions {
  /**
   * Owner of the pod's listeners, 5678 unless told. It matters for DNS: the rules put the answers of
   * the sidecar's user into the connection tracking zone of the queries.
   */
  readonly listenerUid?: number;
  /** TCP ports with a listener in the pod, on all addresses of both families. */
  readonly podTcp: readonly number[];
  /** UDP ports with a listener in the pod, on each of its addresses and loopback. */
  readonly podUdp: readonly number[];
  /** TCP ports with a listener on the remote host. */
  readonly peerTcp: readonly number[];
  /** UDP ports with a listener on each address of the remote host. */
  readonly peerUdp: readonly number[];
  /**
   * More addresses of the remote host, for example service addresses. For addresses that nobody has
   * it says "no way there" only a few dozen times (a limit of the kernel); then probes get lost.
   */
  readonly peerAddresses?: readonly string[];
  /** More addresses of the pod's loopback network, for example of a local resolver. */
  readonly podLoopbackAddresses?: readonly string[];
  /** Guests of the pod, each in a virtual network of its own; the pod forwards for them. */
  readonly guests?: readonly GuestOptions[];
  /** Where the pod's processes are; this process's own cgroup unless told. */
  readonly cgroup?: PodCgroup;
}

/** One attempt. */
export interface LaboratoryProbe {
  /** From the pod, or to it or through it from elsewhere. */
  readonly direction: "outbound" | "inbound";
  /** Inbound: the pod's link to the guest that sends; the remote host sends unless told. */
  readonly through?: string;
  readonly protocol: "tcp" | "udp";
  readonly to: Endpoint;
  /** File-system UID of the sender; 0 unless told. */
  readonly uid?: number;
  /** Address that the sender binds to; the kernel's choice unless told. */
  readonly source?: string;
  /** Source port; the next of the laboratory's own unless told. */
  readonly sourcePort?: number;
}

/** How an attempt ended. */
export interface Landing {
  /** `refused`: actively refused or unreachable; `lost`: no sign in the time given. */
  readonly end: "listener" | "refused" | "lost";
  /** Whose listener it reached. */
  readonly place?: "pod" | "peer";
  /** Address and port at which the listener got it. */
  readonly at?: Endpoint;
  /** The listener's own port, which is another one where no address is translated. */
  readonly listenerPort?: number;
  /** TCP: whom the sender takes for its peer. */
  readonly peer?: Endpoint;
  /** Sender as it was to itself. */
  readonly sender?: Endpoint;
  /** Sender as the listener saw it. */
  readonly seenSource?: Endpoint;
  /** TCP: where the sender wanted to go according to connection tracking. */
  readonly originalDestination?: Endpoint;
  /** Whether the listener's answer came back to the sender. */
  readonly answered: boolean;
  /** Name of the sender's error, for example `ECONNREFUSED`. */
  readonly error?: string;
}

interface Listener {
  readonly place: "pod" | "peer";
  readonly socket: TcpListener | UdpSocket;
}

/** A connection that a listener has taken. */
interface Accepted {
  readonly place: "pod" | "peer";
  readonly listenerPort: number;
  readonly socket: TcpSocket;
}

const PROBE_BYTES = new Uint8Array([0x70]);
// Above the ports on which sidecars and applications are made to listen.
const FIRST_SOURCE_PORT = 30000;
const LAST_SOURCE_PORT = 60999;

/** Namespaces, wire and listeners; dispose of it to remove them. */
export class Laboratory implements Disposable {
  readonly #pod: NamedNamespace;
  readonly #peer: NamedNamespace;
  readonly #guests = new Map<string, NamedNamespace>();
  readonly #tcp: Listener[] = [];
  readonly #udp: Listener[] = [];
  #nextSourcePort = FIRST_SOURCE_PORT;
  readonly #options: LaboratoryOptions;

  /** Makes everything; takes some 10 ms. */
  constructor(options: LaboratoryOptions) {
    this.#options = options;
    const name = uniqueName("kuma-lab-");
    this.#pod = createNamespace(`${name}-pod`);
    try {
      this.#peer = createNamespace(`${name}-peer`);
    } catch (error) {
      this.#pod[Symbol.dispose]();
      throw error;
    }
    try {
      wire(this.#pod, this.#peer, options.peerAddresses ?? []);
      for (const guest of options.guests ?? []) {
        this.#guests.set(guest.interfaceName, addGuest(this.#pod, this.#peer, POD, guest));
      }
      this.#listen(options);
      this.#awaitWire(options.guests ?? []);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Path of the pod's network namespace. */
  get podNetns(): string {
    return this.#pod.path;
  }

  /** Does synchronous work in the pod, for example applies rules. */
  inPod<T>(work: () => T): T {
    return this.#pod.run(work);
  }

  /** Does synchronous work on the remote host. */
  inPeer<T>(work: () => T): T {
    return this.#peer.run(work);
  }

  /**
   * Makes one attempt. Source ports are not reused for a long time, so that an earlier probe's
   * connection tracking entry cannot decide a later one's way.
   *
   * @param timeoutMs bound of each step; only lost packets cost it
   */
  probe(probe: LaboratoryProbe, timeoutMs = 200): Landing {
    return probe.protocol === "tcp"
      ? this.#probeTcp(probe, timeoutMs)
      : this.#probeUdp(probe, timeoutMs);
  }

  /**
   * Sends a TCP packet that belongs to no connection, and tells whether it arrives at an address.
   *
   * @param to an address of the pod, or else of the remote host
   */
  strayArrives(
    probe: Pick<LaboratoryProbe, "direction" | "through" | "to"> & { readonly source: string },
    toPod: boolean,
    timeoutMs: number,
  ): boolean {
    const port = this.#takeSourcePort();
    const { to, source } = probe;
    using receiver = (toPod ? this.#pod : this.#peer).run(() => new RawTcpSocket(to.address));
    using sender = this.#senderOf(probe).run(() => new RawTcpSocket(source));
    sender.sendStray({ address: source, port }, to);
    return receiver.arrives(port, to.port, timeoutMs);
  }

  /** Ends all listeners and starts them anew, as sidecar and application do after the rules are there. */
  listenAgain(): void {
    this.stopListening();
    this.#listen(this.#options);
  }

  /** Ends all listeners. */
  stopListening(): void {
    for (const { socket } of [...this.#tcp.splice(0), ...this.#udp.splice(0)]) socket.close();
  }

  /** Creates sockets of the pod's processes. */
  #asPod<T>(work: () => T): T {
    const { cgroup } = this.#options;
    return cgroup === undefined ? work() : cgroup.run(work);
  }

  /** Takes the connection that a client of the caller's has made, and tells where it has come to. */
  take(client: TcpSocket, timeoutMs = 200): Landing {
    const accepted = this.#accept(timeoutMs);
    if (accepted === undefined) return { end: "lost", answered: false };
    return describeConnection(client, accepted, timeoutMs);
  }

  /** Does what asks the kernel for the calling thread's user, not for the socket's. */
  #asUser<T>({ direction, uid = 0 }: LaboratoryProbe, work: () => T): T {
    const asksThread = direction === "outbound" && this.#options.cgroup !== undefined;
    return asksThread ? withRealUser(uid, work) : work();
  }

  #listen(options: LaboratoryOptions): void {
    const anywhere = ["0.0.0.0", "::"];
    const owner = options.listenerUid ?? 5678;
    const podAddresses = [
      ...["127.0.0.1", "::1", POD.ipv4, POD.ipv6],
      ...(options.podLoopbackAddresses ?? []),
      ...(options.guests ?? []).flatMap((guest) => Object.values(gatewayAddresses(guest))),
    ];
    const peerAddresses = [PEER.ipv4, PEER.ipv6, ...options.peerAddresses ?? []];
    for (
      const [place, namespace, tcpPorts, udpPorts, udpAddresses] of [
        ["pod", this.#pod, options.podTcp, options.podUdp, podAddresses],
        ["peer", this.#peer, options.peerTcp, options.peerUdp, peerAddresses],
      ] as const
    ) {
      const listen = (): void => {
        for (const port of new Set(tcpPorts)) {
          for (const address of anywhere) {
            this.#tcp.push({ place, socket: listenTcp({ address, port }) });
          }
        }
        // A wildcard UDP socket could answer from another address than the one that was asked.
        for (const port of new Set(udpPorts)) {
          for (const address of udpAddresses) {
            this.#udp.push({ place, socket: bindUdp({ address, port }) });
          }
        }
      };
      namespace.run(() =>
        place === "pod" ? this.#asPod(() => withFileSystemUser(owner, listen)) : listen()
      );
    }
  }

  /** The kernel drops what is sent before it has noticed that both ends of the wire are up. */
  #awaitWire(guests: readonly GuestOptions[]): void {
    const protocol = "tcp";
    const probes = (["ipv4", "ipv6"] as const).flatMap((family): LaboratoryProbe[] => [
      { direction: "outbound", protocol, to: { address: PEER[family], port: 1 } },
      { direction: "inbound", protocol, to: { address: POD[family], port: 1 } },
      ...guests.flatMap((guest): LaboratoryProbe[] => [
        {
          direction: "outbound",
          protocol,
          to: { address: guestAddresses(guest)[family], port: 1 },
        },
        {
          direction: "inbound",
          through: guest.interfaceName,
          protocol,
          to: { address: PEER[family], port: 1 },
        },
      ]),
    ]);
    for (const probe of probes) {
      for (let tries = 0; this.probe(probe, 20).end === "lost"; tries++) {
        if (tries === 100) throw new Error("The laboratory's wire did not come up in 2 s");
      }
    }
  }

  /** Creates the sender's socket in the right namespace as the right user. */
  #create<T>(probe: LaboratoryProbe, make: (source: Endpoint) => T): T {
    const namespace = this.#senderOf(probe);
    const address = probe.source ?? (probe.to.address.includes(":") ? "::" : "0.0.0.0");
    const port = probe.sourcePort ?? this.#takeSourcePort();
    const create = () =>
      namespace.run(() => withFileSystemUser(probe.uid ?? 0, () => make({ address, port })));
    return probe.direction === "outbound" ? this.#asPod(create) : create();
  }

  #senderOf({ direction, through }: Pick<LaboratoryProbe, "direction" | "through">) {
    if (direction === "outbound") return this.#pod;
    const namespace = through === undefined ? this.#peer : this.#guests.get(through);
    if (namespace === undefined) throw new TypeError(`There is no guest behind "${through}"`);
    return namespace;
  }

  #takeSourcePort(): number {
    const port = this.#nextSourcePort;
    this.#nextSourcePort = port === LAST_SOURCE_PORT ? FIRST_SOURCE_PORT : port + 1;
    return port;
  }

  #probeTcp(probe: LaboratoryProbe, timeoutMs: number): Landing {
    const client = this.#create(probe, (source) => createTcpSocket(probe.to.address, source));
    try {
      try {
        this.#asUser(probe, () => startTcpConnect(client, probe.to));
        if (!poll([{ fd: client.fd, write: true }], timeoutMs)[0]) {
          return { end: "lost", answered: false };
        }
        client.finishConnect();
      } catch (error) {
        if (!(error instanceof LinuxError)) throw error;
        return { end: "refused", answered: false, error: error.code };
      }
      const accepted = this.#accept(timeoutMs);
      // Connected, yet to none of the listeners: for example to itself by simultaneous open.
      if (accepted === undefined) return { end: "lost", answered: false };
      return describeConnection(client, accepted, timeoutMs);
    } finally {
      client.reset();
    }
  }

  /** Takes the one connection that is waiting at some listener. */
  #accept(timeoutMs: number): Accepted | undefined {
    const ready = poll(this.#tcp.map(({ socket }) => ({ fd: socket.fd })), timeoutMs);
    const listener = this.#tcp[ready.indexOf(true)];
    if (listener === undefined) return undefined;
    const socket = (listener.socket as TcpListener).accept();
    if (socket === undefined) return undefined;
    return { place: listener.place, listenerPort: listener.socket.local.port, socket };
  }

  /** What an earlier probe left, for example an answer that did not find its way back. */
  #forgetDatagrams(): void {
    const ready = poll(this.#udp.map(({ socket }) => ({ fd: socket.fd })), 0);
    for (const [index, { socket }] of this.#udp.entries()) {
      while (ready[index] && (socket as UdpSocket).receive() !== undefined);
    }
  }

  #probeUdp(probe: LaboratoryProbe, timeoutMs: number): Landing {
    const client = this.#create(probe, (source) => bindUdp(source));
    try {
      this.#forgetDatagrams();
      this.#asUser(probe, () => client.connect(probe.to));
      client.send(PROBE_BYTES);
      const waiting = [client, ...this.#udp.map(({ socket }) => socket)];
      const ready = poll(waiting.map(({ fd }) => ({ fd })), timeoutMs);
      if (ready[0]) client.receive(); // Only an error can be there already: it throws.
      const listener = this.#udp[ready.indexOf(true) - 1];
      if (listener === undefined) return { end: "lost", answered: false };
      const socket = listener.socket as UdpSocket;
      const datagram = socket.receive();
      if (datagram === undefined) return { end: "lost", answered: false };
      const sender = client.local;
      socket.send(PROBE_BYTES, datagram.from);
      return {
        sender,
        end: "listener",
        place: listener.place,
        at: socket.local,
        seenSource: datagram.from,
        answered: poll([{ fd: client.fd }], timeoutMs)[0] === true &&
          client.receive() !== undefined,
      };
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
      return { end: "refused", answered: false, error: error.code };
    } finally {
      client.close();
    }
  }

  /** Closes all sockets and deletes the namespaces. */
  [Symbol.dispose](): void {
    this.stopListening();
    for (const namespace of [this.#pod, this.#peer, ...this.#guests.values()]) {
      namespace[Symbol.dispose]();
    }
  }
}

function describeConnection(
  client: TcpSocket,
  accepted: Accepted,
  timeoutMs: number,
): Landing {
  const { place, listenerPort, socket } = accepted;
  try {
    const original = socket.originalDestination();
    const [sender, peer] = [client.local, client.remote];
    socket.send(PROBE_BYTES);
    const answered = poll([{ fd: client.fd }], timeoutMs)[0] === true &&
      client.receive()?.length === PROBE_BYTES.length;
    return {
      end: "listener",
      place,
      at: socket.local,
      listenerPort,
      peer,
      sender,
      seenSource: socket.remote,
      ...(original === undefined ? {} : { originalDestination: original }),
      answered,
    };
  } finally {
    socket.reset();
  }
}
