/**
 * Random configurations and probes from small pools, so that rules and packets often meet. The
 * laboratory that fits them is {@linkcode agreementLaboratory}.
 */
import fc from "fast-check";
import type {
  Cidr,
  DirectionConfig,
  DnsConfig,
  RedirectConfig,
  UidExclusion,
} from "../../src/redirect/config.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import { Laboratory, type LaboratoryProbe, PEER, POD } from "./laboratory.ts";

/** The sidecar's user is fixed: the laboratory's listeners belong to it. */
const SIDECAR_UID = 5678;
const UIDS = [0, 1000, 1234, 4321, SIDECAR_UID];
const PORTS = [53, 80, 443, 8080, 9001];
const SIDECAR_PORTS = { outbound: [15001, 25001], inbound: [15006, 25006], dns: [15053, 25053] };
const PEER_ADDRESSES = {
  ipv4: ["10.96.0.10", "10.96.0.11", "10.200.1.5", "192.168.50.9"],
  ipv6: ["fd96::10", "fd96::11", "fd12::1", "2001:db8::7"],
};
const LOOPBACK = { ipv4: ["127.0.0.1", "127.0.0.6"], ipv6: ["::1", "::6"] };

/** A laboratory with a listener wherever a probe or a redirection can end, but on port 443. */
export function agreementLaboratory(): Laboratory {
  const served = PORTS.filter((port) => port !== 443);
  return new Laboratory({
    listenerUid: SIDECAR_UID,
    podTcp: [...served, ...Object.values(SIDECAR_PORTS).flat()],
    podUdp: [...served, ...SIDECAR_PORTS.dns],
    peerTcp: served,
    peerUdp: served,
    peerAddresses: Object.values(PEER_ADDRESSES).flat(),
  });
}

const ports = fc.uniqueArray(fc.constantFrom(...PORTS), { maxLength: 3 });

const cidr: fc.Arbitrary<Cidr> = fc.constantFrom<Cidr>(
  { family: "ipv4", address: "10.96.0.10", prefix: 32 },
  { family: "ipv4", address: "10.96.0.0", prefix: 12 },
  { family: "ipv4", address: "192.168.50.0", prefix: 25 },
  { family: "ipv4", address: PEER.ipv4, prefix: 32 },
  { family: "ipv4", address: "0.0.0.0", prefix: 1 },
  { family: "ipv6", address: "fd96::10", prefix: 128 },
  { family: "ipv6", address: "fd00::", prefix: 9 },
  { family: "ipv6", address: "2001:db8::", prefix: 32 },
  { family: "ipv6", address: "fd93::2", prefix: 127 },
);

const uidExclusion: fc.Arbitrary<UidExclusion> = fc.record({
  protocol: fc.constantFrom("tcp", "udp"),
  ports: fc.constantFrom(
    [{ from: 1, to: 65535 }],
    [{ from: 80, to: 80 }],
    [{ from: 53, to: 53 }, { from: 400, to: 9000 }],
  ),
  uids: fc.constantFrom({ from: 1234, to: 1234 }, { from: 1000, to: 1999 }, { from: 0, to: 0 }),
});

function direction(
  redirectPorts: readonly number[],
  excludeUids: fc.Arbitrary<UidExclusion[]>,
): fc.Arbitrary<DirectionConfig> {
  return fc.record({
    enabled: fc.oneof({ weight: 5, arbitrary: fc.constant(true) }, fc.constant(false)),
    port: fc.constantFrom(...redirectPorts),
    includePorts: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, ports),
    excludePorts: ports,
    excludeIps: fc.array(cidr, { maxLength: 3 }),
    excludeUids,
    insertInsteadOfAppend: fc.boolean(),
  });
}

const server: fc.Arbitrary<DnsConfig["servers"][number]> = fc.constantFrom(
  { family: "ipv4", address: "10.96.0.10" },
  { family: "ipv4", address: "10.96.0.11" },
  { family: "ipv6", address: "fd96::10" },
);

/** A valid configuration. */
export const redirectConfig: fc.Arbitrary<RedirectConfig> = fc.record({
  rulesVersion: fc.constantFrom("2.9", "3"),
  ipFamilyMode: fc.constantFrom("dualstack", "dualstack", "ipv4", "ipv6"),
  sidecarUid: fc.constant(SIDECAR_UID),
  inbound: direction(SIDECAR_PORTS.inbound, fc.constant([])),
  outbound: direction(SIDECAR_PORTS.outbound, fc.array(uidExclusion, { maxLength: 3 })),
  dns: fc.record({
    enabled: fc.boolean(),
    port: fc.constantFrom(...SIDECAR_PORTS.dns),
    captureAll: fc.boolean(),
    servers: fc.uniqueArray(server, { maxLength: 3, selector: ({ address }) => address }),
    skipConntrackZoneSplit: fc.boolean(),
  }),
  virtualNetworks: fc.constant([]),
  dropInvalidPackets: fc.boolean(),
  log: fc.constant(defaultRedirectConfig.log),
  comments: fc.boolean(),
});

/** A probe, with the source address that the kernel would choose made explicit. */
export type SourcedProbe = LaboratoryProbe & { readonly source: string };

/** An attempt of the pod or of the remote host. */
export const probe: fc.Arbitrary<SourcedProbe> = fc.constantFrom("ipv4", "ipv6").chain((family) => {
  const remote = [PEER[family], ...PEER_ADDRESSES[family]];
  const common = {
    protocol: fc.constantFrom("tcp", "tcp", "udp"),
    port: fc.constantFrom(...PORTS),
  } as const;
  const outbound = fc.record({
    ...common,
    uid: fc.constantFrom(...UIDS),
    address: fc.constantFrom(...remote, POD[family], ...LOOPBACK[family].slice(0, 1)),
    passthrough: fc.boolean(),
  }).map(({ protocol, port, uid, address, passthrough }): SourcedProbe => {
    const [loopback = "", marker = ""] = LOOPBACK[family];
    const own = address === POD[family] || address === loopback;
    const usual = address === loopback ? loopback : POD[family];
    const source = own && passthrough && uid === SIDECAR_UID ? marker : usual;
    return { direction: "outbound", protocol, uid, source, to: { address, port } };
  });
  const inbound = fc.record({ ...common, source: fc.constantFrom(...remote) })
    .map(({ protocol, port, source }): SourcedProbe => ({
      direction: "inbound",
      protocol,
      source,
      to: { address: POD[family], port },
    }));
  return fc.oneof({ weight: 3, arbitrary: outbound }, inbound);
});
