/**
 * Random configurations and probes from small pools, so that rules and packets often meet. The
 * laboratory that fits them is {@linkcode agreementLaboratory}.
 */
import fc from "fast-check";
import type {
  DirectionConfig,
  DnsConfig,
  RedirectConfig,
  UidExclusion,
  VirtualNetwork,
} from "../../src/redirect/config.ts";
import type { Cidr } from "../../src/ip/cidr.ts";
import { DOCKER_RESOLVER, FOREIGN_PORTS, type Foreigner } from "./foreign_rules.ts";
import type { PodCgroup } from "./pod_cgroup.ts";
import { Laboratory, type LaboratoryProbe, PEER, POD } from "./laboratory.ts";
import { gatewayAddresses, guestAddresses, type GuestOptions } from "./virtual_network.ts";

/** The usual user of a sidecar, and the least, the greatest and another one that there can be. */
const SIDECAR_UIDS = [5678, 5678, 1001, 0, 4294967294];
const UIDS = [0, 1000, 1234, 4321];
const PORTS = [53, 80, 443, 8080, 9001];
/** Nobody listens there. */
export const CLOSED_PORT = 443;
const SIDECAR_PORTS = {
  outbound: [15001, 25001],
  inbound: [15006, 25006],
  inboundIpv6: [15010],
  dns: [15053, 25053],
};
const PEER_ADDRESSES = {
  ipv4: ["10.96.0.10", "10.96.0.11", "10.200.1.5", "192.168.50.9"],
  ipv6: ["fd96::10", "fd96::11", "fd12::1", "2001:db8::7"],
};
const LOOPBACK = { ipv4: ["127.0.0.1", "127.0.0.6"], ipv6: ["::1", "::6"] };
const GUESTS: readonly GuestOptions[] = [
  { interfaceName: "vnet0", network4: "10.77.0", network6: "fd77:0:0:1" },
  { interfaceName: "tap7", network4: "10.78.0", network6: "fd78:0:0:1" },
];

/** The pod's own addresses that a probe may be sent to. */
export const OWN_ADDRESSES = {
  ipv4: [
    ...[POD.ipv4, "127.0.0.1", DOCKER_RESOLVER],
    ...GUESTS.map((guest) => gatewayAddresses(guest).ipv4),
  ],
  ipv6: [POD.ipv6, "::1", ...GUESTS.map((guest) => gatewayAddresses(guest).ipv6)],
};

/** A laboratory with a listener wherever a probe or a redirection can end, but on port 443. */
export function agreementLaboratory(listenerUid: number, cgroup?: PodCgroup): Laboratory {
  const served = PORTS.filter((port) => port !== CLOSED_PORT);
  const { translator, dockerTcp, dockerUdp } = FOREIGN_PORTS;
  return new Laboratory({
    listenerUid,
    podTcp: [...served, ...Object.values(SIDECAR_PORTS).flat(), translator, dockerTcp],
    podUdp: [...served, ...SIDECAR_PORTS.dns, translator, dockerUdp],
    podLoopbackAddresses: [DOCKER_RESOLVER],
    peerTcp: served,
    peerUdp: served,
    peerAddresses: Object.values(PEER_ADDRESSES).flat(),
    guests: GUESTS,
    ...(cgroup === undefined ? {} : { cgroup }),
  });
}

const ports = fc.uniqueArray(fc.constantFrom(...PORTS), { maxLength: 3 });

const cidr: fc.Arbitrary<Cidr> = fc.constantFrom<Cidr>(
  { family: "ipv4", address: "10.96.0.10", prefix: 32 },
  { family: "ipv4", address: "10.96.0.0", prefix: 12 },
  { family: "ipv4", address: "192.168.50.0", prefix: 25 },
  { family: "ipv4", address: PEER.ipv4, prefix: 32 },
  { family: "ipv4", address: "0.0.0.0", prefix: 1 },
  { family: "ipv4", address: "10.77.0.0", prefix: 24 },
  { family: "ipv6", address: "fd96::10", prefix: 128 },
  { family: "ipv6", address: "fd00::", prefix: 9 },
  { family: "ipv6", address: "2001:db8::", prefix: 32 },
  { family: "ipv6", address: "fd93::2", prefix: 127 },
  { family: "ipv6", address: "fd77:0:0:1::", prefix: 64 },
);

/** Networks of the length 0 hold every address: too much for more than a few of the configurations. */
const anyCidr: fc.Arbitrary<Cidr> = fc.oneof(
  { weight: 20, arbitrary: cidr },
  fc.constantFrom<Cidr>(
    { family: "ipv4", address: "0.0.0.0", prefix: 0 },
    { family: "ipv6", address: "::", prefix: 0 },
  ),
);

const uidExclusion: fc.Arbitrary<UidExclusion> = fc.record({
  protocol: fc.constantFrom("tcp", "udp"),
  ports: fc.constantFrom(
    [{ from: 1, to: 65535 }],
    [{ from: 80, to: 80 }],
    [{ from: 53, to: 53 }, { from: 400, to: 9000 }],
    // More than one rule can hold.
    [...Array.from({ length: 16 }, (_, i) => ({ from: 2 * i + 1, to: 2 * i + 1 })), {
      from: 53,
      to: 80,
    }],
  ),
  uids: fc.constantFrom(
    { from: 1234, to: 1234 },
    { from: 1000, to: 1999 },
    { from: 0, to: 0 },
    { from: 70000, to: 4294967294 },
  ),
});

function direction(
  redirectPorts: readonly number[],
  ipv6Ports: readonly number[],
  excludeUids: fc.Arbitrary<UidExclusion[]>,
): fc.Arbitrary<DirectionConfig> {
  return fc.record({
    enabled: fc.oneof({ weight: 5, arbitrary: fc.constant(true) }, fc.constant(false)),
    port: fc.constantFrom(...redirectPorts),
    ipv6Port: fc.constantFrom(undefined, ...ipv6Ports),
    includePorts: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, ports),
    excludePorts: ports,
    excludeIps: fc.array(anyCidr, { maxLength: 3 }),
    excludeUids,
    insertInsteadOfAppend: fc.boolean(),
  }).map(({ ipv6Port, ...rest }) => ipv6Port === undefined ? rest : { ...rest, ipv6Port });
}

const SERVERS: DnsConfig["servers"] = [
  { family: "ipv4", address: "10.96.0.10" },
  { family: "ipv4", address: "10.96.0.11" },
  { family: "ipv4", address: DOCKER_RESOLVER },
  { family: "ipv6", address: "fd96::10" },
  { family: "ipv6", address: "::1" },
];

const virtualNetwork: fc.Arbitrary<VirtualNetwork> = fc.record({
  interfaceName: fc.constantFrom("vnet0", "vnet+", "tap7", "t+", "eth+", "lo", "absent0"),
  cidr: anyCidr,
});

/** A valid configuration. */
export const redirectConfig: fc.Arbitrary<RedirectConfig> = fc.record({
  rulesVersion: fc.constantFrom("2.9", "3"),
  ipFamilyMode: fc.constantFrom("dualstack", "dualstack", "dualstack", "ipv4", "ipv6"),
  sidecarUid: fc.constantFrom(...SIDECAR_UIDS),
  inbound: direction(SIDECAR_PORTS.inbound, SIDECAR_PORTS.inboundIpv6, fc.constant([])),
  outbound: direction(SIDECAR_PORTS.outbound, [], fc.array(uidExclusion, { maxLength: 3 })),
  dns: fc.record({
    enabled: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, fc.constant(false)),
    port: fc.constantFrom(...SIDECAR_PORTS.dns),
    captureAll: fc.boolean(),
    servers: fc.uniqueArray(fc.constantFrom(...SERVERS), {
      maxLength: 4,
      selector: ({ address }) => address,
    }),
    skipConntrackZoneSplit: fc.boolean(),
  }),
  virtualNetworks: fc.oneof(
    fc.constant([]),
    fc.array(virtualNetwork, { minLength: 1, maxLength: 3 }),
  ),
  dropInvalidPackets: fc.boolean(),
  log: fc.record({ enabled: fc.boolean(), level: fc.integer({ min: 0, max: 7 }) }),
  comments: fc.boolean(),
});

/** A probe, with the source address that the kernel would choose made explicit. */
export type SourcedProbe = LaboratoryProbe & { readonly source: string };

const protocols = fc.constantFrom("tcp", "tcp", "udp");
const targetPorts = fc.constantFrom(...PORTS);

/** The pod, or a process in it, calls somebody. */
function outbound(family: "ipv4" | "ipv6", config: RedirectConfig): fc.Arbitrary<SourcedProbe> {
  const [loopback, marker] = LOOPBACK[family];
  return fc.record({
    protocol: protocols,
    port: targetPorts,
    uid: fc.constantFrom(...UIDS, ...UIDS, config.sidecarUid, config.sidecarUid, config.sidecarUid),
    address: fc.constantFrom(PEER[family], ...PEER_ADDRESSES[family], ...OWN_ADDRESSES[family]),
    passthrough: fc.boolean(),
    answering: fc.nat(9),
  }).map(({ protocol, port, uid, address, passthrough, answering }): SourcedProbe => {
    const own = OWN_ADDRESSES[family].includes(address);
    const usual = !own ? POD[family] : address === DOCKER_RESOLVER ? loopback! : address;
    const source = own && passthrough ? marker! : usual;
    const to = { address, port };
    // What an answer of the DNS proxy looks like.
    const sourcePort = protocol === "udp" && answering === 0 && !own ? config.dns.port : undefined;
    return {
      ...{ direction: "outbound", protocol, uid, source, to },
      ...(sourcePort === undefined ? {} : { sourcePort }),
    };
  });
}

/** The pod asks a DNS server. */
function dnsQuestion(family: "ipv4" | "ipv6", config: RedirectConfig): fc.Arbitrary<SourcedProbe> {
  const [loopback] = LOOPBACK[family];
  const servers = [...config.dns.servers, ...SERVERS].filter((server) => server.family === family)
    .map(({ address }) => address);
  return fc.record({
    protocol: fc.constantFrom("udp", "udp", "tcp"),
    uid: fc.constantFrom(...UIDS, config.sidecarUid, config.sidecarUid),
    address: fc.constantFrom(...servers),
  }).map(({ protocol, uid, address }): SourcedProbe => {
    const source = OWN_ADDRESSES[family].includes(address) ? loopback! : POD[family];
    return { direction: "outbound", protocol, uid, source, to: { address, port: 53 } };
  });
}

/** The remote host calls the pod; sometimes like the answer of a DNS server. */
function inbound(family: "ipv4" | "ipv6"): fc.Arbitrary<SourcedProbe> {
  return fc.record({
    protocol: protocols,
    port: targetPorts,
    source: fc.constantFrom(PEER[family], ...PEER_ADDRESSES[family]),
    answering: fc.boolean(),
  }).map(({ protocol, port, source, answering }): SourcedProbe => ({
    ...{ direction: "inbound", protocol, source, to: { address: POD[family], port } },
    ...(protocol === "udp" && answering ? { sourcePort: 53 } : {}),
  }));
}

/** A guest calls the pod or, through it, the remote host. */
function guest(family: "ipv4" | "ipv6"): fc.Arbitrary<SourcedProbe> {
  return fc.record({ protocol: protocols, port: targetPorts, guest: fc.constantFrom(...GUESTS) })
    .chain(({ protocol, port, guest }) =>
      fc.constantFrom(
        ...PEER_ADDRESSES[family],
        PEER[family],
        POD[family],
        gatewayAddresses(guest)[family],
      ).map((address): SourcedProbe => ({
        direction: "inbound",
        through: guest.interfaceName,
        protocol,
        source: guestAddresses(guest)[family],
        to: { address, port },
      }))
    );
}

/** A configuration, the rules that are in the namespace already, and packets to try. */
export interface Attempt {
  readonly foreigner: Foreigner;
  readonly config: RedirectConfig;
  /** Whether the kernel can split connection tracking into zones, as far as the compiler knows. */
  readonly conntrackZones: boolean;
  readonly probes: readonly SourcedProbe[];
  /** Sent as a packet that belongs to no connection. */
  readonly stray: SourcedProbe;
}

/** A datagram from and to the same ports as an earlier one belongs to the earlier one's connection. */
function beginsConnection(
  { source, sourcePort, to }: SourcedProbe,
  index: number,
  probes: readonly SourcedProbe[],
): boolean {
  const first = probes.findIndex((other) =>
    other.sourcePort === sourcePort && other.source === source &&
    other.to.address === to.address && other.to.port === to.port
  );
  return sourcePort === undefined || first === index;
}

/** Attempts with at most a number of probes each. */
export function attempt(probeCount: number): fc.Arbitrary<Attempt> {
  const foreigner = fc.constantFrom<Foreigner>("nobody", "nobody", "translator", "docker");
  return fc.record({ foreigner, config: redirectConfig }).chain(({ foreigner, config: free }) => {
    // Rules of others and unusual users need not meet each other: that saves laboratories.
    const config = foreigner === "nobody" ? free : { ...free, sidecarUid: SIDECAR_UIDS[0]! };
    const probe = fc.constantFrom("ipv4" as const, "ipv6" as const).chain((family) =>
      fc.oneof(
        { weight: 6, arbitrary: outbound(family, config) },
        { weight: 2, arbitrary: dnsQuestion(family, config) },
        { weight: 3, arbitrary: inbound(family) },
        { weight: 3, arbitrary: guest(family) },
      )
    );
    return fc.record({
      foreigner: fc.constant(foreigner),
      config: fc.constant(config),
      conntrackZones: fc.integer({ min: 0, max: 9 }).map((number) => number > 0),
      probes: fc.array(probe, { minLength: probeCount, maxLength: probeCount })
        .map((probes) => probes.filter(beginsConnection)),
      stray: probe,
    });
  });
}
