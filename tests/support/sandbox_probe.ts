/**
 * Finds out with real packets where a pod's connections and DNS queries end. All sockets, the
 * sidecar's, the application's, the host's and the clients', are held by the test itself, which
 * enters the namespaces for a moment to make them.
 */
import { withNetworkNamespace } from "../../src/linux/network_namespace.ts";
import {
  bindUdp,
  connectTcp,
  createTcpSocket,
  type Endpoint,
  formatEndpoint,
  listenTcp,
  poll,
  type Socket,
  startTcpConnect,
  type TcpListener,
  type TcpSocket,
  type UdpSocket,
  withFileSystemUser,
} from "./sockets.ts";

/** A pod and the host that it talks with. */
export interface ProbedPod {
  /** Path of the pod's network namespace. */
  readonly pod: string;
  /** Path of the namespace in which the bridge is. */
  readonly host: string;
  /** The pod's address. */
  readonly podAddress: string;
  /** The bridge's address of the same family. */
  readonly hostAddress: string;
  /** The host's user that is the pod's root, when the pod has a user namespace of its own. */
  readonly firstUser?: number;
}

/** Where each attempt ended. */
export interface Landings {
  /** A connection of the application's user to the host. */
  readonly outbound: string;
  /** One to an address where nobody is. */
  readonly outboundNowhere: string;
  /** A connection of the sidecar's user to the host. */
  readonly sidecar: string;
  /** A connection of the host to the application's port. */
  readonly inbound: string;
  /** A DNS query of the application's user to the host, over UDP. */
  readonly dns: string;
  /** The same to another server. */
  readonly otherDns: string;
  /** A DNS query of the sidecar's user. */
  readonly sidecarDns: string;
}

const APPLICATION_USER = 1000;
const SIDECAR_USER = 5678;
const WEB_PORT = 7777;
const APPLICATION_PORT = 8080;
const PATIENCE = 2000;

/** An address that no namespace has; the host, which has no way there, says so. */
function nowhereLike(address: string): string {
  return address.includes(":") ? "fd99::99" : "10.99.9.9";
}

/** What a pod without rules answers. */
export function untouched({ podAddress, hostAddress }: ProbedPod): Landings {
  const direct = `host:${WEB_PORT} from ${podAddress}`;
  const dns = `host:53 from ${podAddress}`;
  return {
    outbound: direct,
    outboundNowhere: "nowhere",
    sidecar: direct,
    inbound: `pod:${APPLICATION_PORT} from ${hostAddress}`,
    dns,
    otherDns: "nowhere",
    sidecarDns: dns,
  };
}

/**
 * What a pod with the usual rules answers.
 *
 * @param dns Whether DNS goes to the sidecar: of all servers, of the host's address only, or of none.
 */
export function redirected(
  { podAddress, hostAddress }: ProbedPod,
  dns: "all" | "host" | "none",
): Landings {
  const nowhere = nowhereLike(hostAddress);
  const loopback = podAddress.includes(":") ? "::1" : "127.0.0.1";
  const endpoint = (address: string, port: number) => formatEndpoint({ address, port });
  const proxied = `${loopback}:15053 from ${podAddress}`;
  return {
    outbound: `pod:15001 for ${endpoint(hostAddress, WEB_PORT)}`,
    outboundNowhere: `pod:15001 for ${endpoint(nowhere, 81)}`,
    sidecar: `host:${WEB_PORT} from ${podAddress}`,
    inbound: `pod:15006 for ${endpoint(podAddress, APPLICATION_PORT)}`,
    dns: dns === "none" ? `host:53 from ${podAddress}` : proxied,
    otherDns: dns === "all" ? proxied : "nowhere",
    sidecarDns: `host:53 from ${podAddress}`,
  };
}

/** Makes all attempts, one after the other. */
export function probe(target: ProbedPod): Landings {
  using resources = new DisposableStack();
  const { podAddress, hostAddress } = target;
  const wildcard = podAddress.includes(":") ? "::" : "0.0.0.0";
  const loopback = podAddress.includes(":") ? "::1" : "127.0.0.1";
  const inPod = <T>(work: () => T): T => withNetworkNamespace(target.pod, work);
  const onHost = <T>(work: () => T): T => withNetworkNamespace(target.host, work);
  const listen = (address: string, port: number) => resources.use(listenTcp({ address, port }));

  const tcp = new Map<string, TcpListener>();
  const udp = new Map<string, UdpSocket>();
  // Netfilter tells the sidecar's packets from others' by who made the socket.
  const inPodAs = <T>(uid: number, work: () => T): T =>
    inPod(() => withFileSystemUser((target.firstUser ?? 0) + uid, work));
  inPodAs(SIDECAR_USER, () => {
    for (const port of [15001, 15006]) tcp.set(`pod:${port}`, listen(wildcard, port));
    udp.set(`${loopback}:15053`, resources.use(bindUdp({ address: loopback, port: 15053 })));
  });
  inPodAs(
    APPLICATION_USER,
    () => tcp.set(`pod:${APPLICATION_PORT}`, listen(wildcard, APPLICATION_PORT)),
  );
  onHost(() => {
    tcp.set(`host:${WEB_PORT}`, listen(wildcard, WEB_PORT));
    udp.set("host:53", resources.use(bindUdp({ address: hostAddress, port: 53 })));
  });

  const connect = (uid: number, address: string, port: number) =>
    landingOfConnection(tcp, () => inPodAs(uid, () => startConnection({ address, port })));
  const query = (uid: number, address: string) =>
    landingOfQuery(
      udp,
      { address, port: 53 },
      () => inPodAs(uid, () => bindUdp({ address: wildcard, port: 0 })),
    );
  const nowhere = nowhereLike(hostAddress);
  return {
    outbound: connect(APPLICATION_USER, hostAddress, WEB_PORT),
    outboundNowhere: connect(APPLICATION_USER, nowhere, 81),
    sidecar: connect(SIDECAR_USER, hostAddress, WEB_PORT),
    inbound: landingOfConnection(
      tcp,
      () => onHost(() => startConnection({ address: podAddress, port: APPLICATION_PORT })),
    ),
    dns: query(APPLICATION_USER, hostAddress),
    otherDns: query(APPLICATION_USER, nowhere),
    sidecarDns: query(SIDECAR_USER, hostAddress),
  };
}

/**
 * Tells whether a pod's outbound connections go to the sidecar, by one connection of the application
 * to where nobody is.
 */
export function isCaptured(pod: string): boolean {
  const address = nowhereLike("0.0.0.0");
  using resources = new DisposableStack();
  return withNetworkNamespace(pod, () => {
    resources.use(listenTcp({ address: "0.0.0.0", port: 15001 }));
    try {
      withFileSystemUser(
        APPLICATION_USER,
        () => connectTcp({ address, port: 81 }, { timeoutMs: 500 }).reset(),
      );
      return true;
    } catch {
      return false;
    }
  });
}

function startConnection(to: Endpoint): TcpSocket {
  const socket = createTcpSocket(to.address);
  try {
    startTcpConnect(socket, to);
  } catch (error) {
    socket.close();
    throw error;
  }
  return socket;
}

function landingOfConnection(
  listeners: ReadonlyMap<string, TcpListener>,
  start: () => TcpSocket,
): string {
  using client = start();
  const at = whereItArrives(listeners, client, { write: true });
  if (at === undefined) return "nowhere";
  const [name, listener] = at;
  using served = listener.accept()!;
  const original = served.originalDestination();
  const wasRedirected = original !== undefined && original.port !== served.local.port;
  return wasRedirected
    ? `${name} for ${formatEndpoint(original)}`
    : `${name} from ${served.remote.address}`;
}

/** Sends a query and its answer; a connected socket takes it from the server that was asked only. */
function landingOfQuery(
  servers: ReadonlyMap<string, UdpSocket>,
  to: Endpoint,
  open: () => UdpSocket,
): string {
  using client = open();
  client.connect(to);
  client.send(new TextEncoder().encode("query"));
  const at = whereItArrives(servers, client, { write: false });
  if (at === undefined) return "nowhere";
  const [name, server] = at;
  const { data, from } = server.receive()!;
  server.send(data, from);
  client.wait(PATIENCE);
  client.receive();
  return `${name} from ${from.address}`;
}

/** Waits until something arrives; `undefined` when the client hears that it cannot, or nothing. */
function whereItArrives<T extends Socket>(
  sockets: ReadonlyMap<string, T>,
  client: Socket,
  { write }: { readonly write: boolean },
): [string, T] | undefined {
  const entries = [...sockets];
  const interests = entries.map(([, { fd }]) => ({ fd }));
  const first = poll([{ fd: client.fd, write }, ...interests], PATIENCE);
  const seen = first.indexOf(true, 1);
  if (seen > 0) return entries[seen - 1];
  if (!first[0] || client.takeError() !== 0) return undefined;
  // Connected, a moment before the other end hears of it.
  const index = poll(interests, PATIENCE).indexOf(true);
  return index < 0 ? undefined : entries[index];
}
