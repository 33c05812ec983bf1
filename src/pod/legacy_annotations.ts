/** Reads the annotations, one per setting, that control planes before Kuma 3 write on a pod. */
import type { DirectionConfig } from "../redirect/config.ts";
import {
  DNS_PROXY_PORT,
  ENVOY_ADMIN_PORT,
  INBOUND_PORT,
  LOG_LEVEL,
  OUTBOUND_PORT,
} from "../redirect/defaults.ts";
import { quote } from "../text/quote.ts";
import { ConfigError } from "./config_error.ts";
import { parseCidrs } from "./networks.ts";
import { checkLength, parseBoolean, parseDecimal, parsePort, splitList } from "./scalars.ts";
import type { Diagnostics } from "./section.ts";
import {
  type ParsedConfig,
  parseFamilyMode,
  readSidecarUid,
  type TransparentProxyOptions,
} from "./transparent_proxy_config.ts";
import { parseUidExclusions } from "./uid_exclusions.ts";

/** Separate IPv6 inbound port that Kuma up to 2.8 writes when nobody chose one. */
const UNUSED_IPV6_INBOUND_PORT = 15010;

/** Longest value that is read, in UTF-16 code units. */
const MAX_VALUE = 65536;

/** Reads single annotations; a value of nothing but blanks counts as absent, except of a list. */
class Annotations {
  constructor(
    private readonly values: Readonly<Record<string, string>>,
    readonly diagnostics: Diagnostics,
  ) {}

  /** Name of an annotation in messages. */
  name(annotation: string): string {
    return `Annotation "${annotation}"`;
  }

  list(annotation: string, key: string): string | undefined {
    const value = Object.hasOwn(this.values, annotation) ? this.values[annotation] : undefined;
    if (value !== undefined && value.length > MAX_VALUE) {
      throw new ConfigError(
        `${this.name(annotation)} is ${value.length} characters long, more than ${MAX_VALUE}`,
      );
    }
    this.diagnostics.origins.set(key, value === undefined ? "default" : `annotation ${annotation}`);
    return value;
  }

  text(annotation: string, key: string): string | undefined {
    const value = this.list(annotation, key)?.trim();
    if (value !== undefined && value !== "") return value;
    this.diagnostics.origins.set(key, "default");
    return undefined;
  }

  boolean(annotation: string, key: string): boolean {
    const value = this.text(annotation, key);
    const parsed = value === undefined ? false : parseBoolean(value);
    if (parsed !== undefined) return parsed;
    throw new ConfigError(
      `${this.name(annotation)} is ${quote(value!)} where "enabled", "true", "disabled" or ` +
        `"false" is expected`,
    );
  }

  port(annotation: string, key: string, fallback: number): number {
    const value = this.text(annotation, key);
    return value === undefined ? fallback : parsePort(value, this.name(annotation));
  }

  ports(annotation: string, key: string, fallback: readonly number[]): readonly number[] {
    const value = this.list(annotation, key);
    if (value === undefined) return fallback;
    const entries = splitList(value, ",", this.name(annotation));
    // The reference takes port 0, to which no packet goes.
    const real = entries.filter((entry) => parseDecimal(entry, 0, 0) === undefined);
    if (real.length < entries.length) {
      this.diagnostics.warnings.push(
        `${this.name(annotation)} holds the port 0, which has no effect`,
      );
    }
    return [...new Set(real.map((entry) => parsePort(entry, this.name(annotation))))];
  }
}

/**
 * Reads the annotations, each over its own default.
 *
 * @param values The pod's annotations.
 * @param options What an administrator says.
 * @param diagnostics Receives origins and warnings.
 * @throws {ConfigError} when a value is malformed, or is one that a pod may not state.
 */
export function parseLegacyAnnotations(
  values: Readonly<Record<string, string>>,
  options: TransparentProxyOptions,
  diagnostics: Diagnostics,
): ParsedConfig {
  const read = new Annotations(values, diagnostics);
  const traffic = (name: string) => `traffic.kuma.io/${name}`;
  const uid = "kuma.io/sidecar-uid";
  const family = "kuma.io/transparent-proxying-ip-family-mode";
  const familyMode = read.text(family, "ipFamilyMode");
  const inboundPort = read.port(
    "kuma.io/transparent-proxying-inbound-port",
    "redirect.inbound.port",
    INBOUND_PORT,
  );
  const ipv6Port = readIpv6InboundPort(read, values, inboundPort);
  const ipv4Only = familyMode === undefined && ipv6Port === 0;
  if (ipv4Only) diagnostics.origins.set("ipFamilyMode", `annotation ${ipv6PortAnnotation}`);
  const gateway = read.boolean("kuma.io/gateway", "redirect.inbound.enabled");
  const direction = (name: "inbound" | "outbound"): Omit<DirectionConfig, "enabled" | "port"> => {
    const ips = traffic(`exclude-${name}-ips`);
    return {
      includePorts: [],
      excludePorts: read.ports(
        traffic(`exclude-${name}-ports`),
        `redirect.${name}.excludePorts`,
        [ENVOY_ADMIN_PORT],
      ),
      excludeIps: parseCidrs(
        [read.list(ips, `redirect.${name}.excludePortsForIPs`) ?? ""],
        read.name(ips),
      ),
      excludeUids: [],
      insertInsteadOfAppend: false,
    };
  };
  const inbound = direction("inbound");
  const uids = traffic("exclude-outbound-ports-for-uids");
  return {
    sidecarUid: readSidecarUid(read.text(uid, "kumaDPUser"), read.name(uid), options),
    ipFamilyMode: ipv4Only ? "ipv4" : parseFamilyMode(familyMode ?? "", read.name(family)),
    inbound: {
      enabled: !gateway,
      port: inboundPort,
      ...inbound,
      ...(ipv6Port === 0 || ipv6Port === inboundPort ? {} : { ipv6Port }),
      excludePorts: withProbePort(read, inbound.excludePorts),
    },
    outbound: {
      enabled: true,
      port: read.port(
        "kuma.io/transparent-proxying-outbound-port",
        "redirect.outbound.port",
        OUTBOUND_PORT,
      ),
      ...direction("outbound"),
      excludeUids: parseUidExclusions(
        splitList(
          read.list(uids, "redirect.outbound.excludePortsForUIDs") ?? "",
          ";",
          read.name(uids),
        ),
        read.name(uids),
      ),
    },
    dns: {
      enabled: read.boolean("kuma.io/builtin-dns", "redirect.dns.enabled"),
      port: readDnsPort(read),
      captureAll: true,
      servers: [],
      skipConntrackZoneSplit: false,
    },
    virtualNetworks: [],
    dropInvalidPackets: read.boolean(traffic("drop-invalid-packets"), "dropInvalidPackets"),
    log: { enabled: read.boolean(traffic("iptables-logs"), "log.enabled"), level: LOG_LEVEL },
    comments: true,
  };
}

const ipv6PortAnnotation = "kuma.io/transparent-proxying-inbound-v6-port";

/** Probe proxy's port, which Kuma 2.9 and later write on every pod. */
const probePortAnnotation = "kuma.io/application-probe-proxy-port";

/** Tells the IPv6 inbound port, 0 when IPv6 is off. */
function readIpv6InboundPort(
  read: Annotations,
  values: Readonly<Record<string, string>>,
  inboundPort: number,
): number {
  const key = "redirect.inbound.ipv6Port";
  const value = read.text(ipv6PortAnnotation, key);
  if (value === undefined) {
    read.diagnostics.origins.delete(key);
    return inboundPort;
  }
  if (Object.hasOwn(values, probePortAnnotation)) {
    read.diagnostics.origins.delete(key);
    read.diagnostics.warnings.push(
      `${read.name(ipv6PortAnnotation)} has no effect with Kuma 2.9 and later`,
    );
    return inboundPort;
  }
  if (parseDecimal(value, 0, 0) === 0) return 0;
  const port = parsePort(value, read.name(ipv6PortAnnotation));
  return port === UNUSED_IPV6_INBOUND_PORT ? inboundPort : port;
}

function withProbePort(read: Annotations, ports: readonly number[]): readonly number[] {
  const key = "redirect.inbound.excludePorts";
  const origin = read.diagnostics.origins.get(key)!;
  const value = read.text(probePortAnnotation, key);
  // Kuma up to 2.8 has no such proxy: whatever listens at its port is an application of the mesh.
  if (value === undefined) {
    read.diagnostics.origins.set(key, origin);
    return ports;
  }
  read.diagnostics.origins.set(key, `${origin} + annotation ${probePortAnnotation}`);
  if (parseDecimal(value, 0, 0) === 0) return ports;
  const port = parsePort(value, read.name(probePortAnnotation));
  const all = [...new Set([...ports, port])];
  checkLength(all.length, read.name("traffic.kuma.io/exclude-inbound-ports"));
  return all;
}

function readDnsPort(read: Annotations): number {
  const annotation = "kuma.io/builtin-dns-port";
  const key = "redirect.dns.port";
  const value = read.text(annotation, key);
  const enabled = parseBoolean(read.text("kuma.io/builtin-dns", "redirect.dns.enabled") ?? "") ??
    false;
  // A control plane without the DNS feature writes port 0.
  if (value === undefined || (!enabled && parseDecimal(value, 0, 0) === 0)) return DNS_PROXY_PORT;
  return parsePort(value, read.name(annotation));
}
