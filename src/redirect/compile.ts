/**
 * Compiles a pod's configuration into rules. The identifiers of the rules (R raw, P PREROUTING,
 * O OUTPUT, I inbound chain, M outbound chain, D redirect chains, X mangle) are those that
 * `install-cni explain` prints and `docs/rules.md` lists.
 */
import type { RedirectConfig } from "./config.ts";
import type { Cidr } from "../ip/cidr.ts";
import type { IpFamily } from "../ip/address.ts";
import { DNS_PORT } from "./defaults.ts";
import {
  baseChain,
  from,
  fromPort,
  host,
  ownedBy,
  rule,
  to,
  toPort,
  udp,
  zone,
} from "./matches.ts";
import type { FamilyContext } from "./family_context.ts";
import { natTable } from "./compile_nat.ts";
import type { FamilyRuleset, NamespaceFacts, Ruleset, Table } from "./ruleset.ts";

/**
 * Compiles a configuration for a namespace.
 *
 * In mode `ipv4` only IPv4 rules exist, in mode `ipv6` only IPv6 rules: traffic of the other family
 * is not redirected. In mode `dualstack` IPv6 rules exist when the namespace can carry IPv6. Mode
 * `ipv6` states a need, so its rules are compiled whatever the namespace looks like.
 *
 * @param config A validated configuration.
 * @param facts What the namespace looks like.
 * @returns The rules of each family.
 */
export function compileRuleset(config: RedirectConfig, facts: NamespaceFacts): Ruleset {
  const families: IpFamily[] = [];
  if (config.ipFamilyMode !== "ipv6") families.push("ipv4");
  if (config.ipFamilyMode === "ipv6" || (config.ipFamilyMode === "dualstack" && facts.ipv6)) {
    families.push("ipv6");
  }
  return {
    families: families.map((family) => compileFamily(config, facts, family)),
    comments: config.comments,
    ipv6PassthroughAddress: families.includes("ipv6") && facts.ipv6,
  };
}

function compileFamily(
  config: RedirectConfig,
  facts: NamespaceFacts,
  family: IpFamily,
): FamilyRuleset {
  const servers = config.dns.servers.filter((server) => server.family === family);
  const context: FamilyContext = {
    config,
    family,
    loopback: facts.loopback,
    passthrough: host(family, family === "ipv4" ? "127.0.0.6" : "::6"),
    localhost: host(family, family === "ipv4" ? "127.0.0.1" : "::1"),
    dns: config.dns.enabled && (config.dns.captureAll || servers.length > 0),
    dnsServers: config.dns.captureAll ? [] : servers.map((server) => host(family, server.address)),
    dockerOutput: facts.dockerOutput[family],
  };
  // With Docker's DNS, answers come from a port that Docker's own rules choose, so that splitting
  // by port 53 would tear them from their questions.
  const split = context.dns && !config.dns.skipConntrackZoneSplit && facts.conntrackZones &&
    !(context.dockerOutput && config.dns.captureAll);
  const tables = [
    ...(split ? [rawTable(context)] : []),
    ...(config.dropInvalidPackets ? [mangleTable()] : []),
    natTable(context),
  ];
  return { family, tables };
}

/**
 * Conntrack zones: an application's question to the DNS proxy (zone 2) and the proxy's own question
 * to the same server (zone 1) may have equal addresses and ports, and must not share an entry.
 */
function rawTable(context: FamilyContext): Table {
  const { dnsServers, localhost, config: { sidecarUid, dns } } = context;
  const sidecar = ownedBy({ from: sidecarUid, to: sidecarUid });
  const prerouting = dnsServers.length === 0
    ? [
      rule("R1", "DNS answers from upstream servers belong to zone 1", [
        udp,
        fromPort(DNS_PORT),
      ], zone(1)),
    ]
    : dnsServers.map((server) =>
      rule("R1", `DNS answers from ${server.address} belong to zone 1`, [
        from(server),
        udp,
        fromPort(DNS_PORT),
      ], zone(1))
    );
  const output = [
    rule("R2", "DNS queries of the sidecar belong to zone 1", [
      udp,
      toPort(DNS_PORT),
      sidecar,
    ], zone(1)),
    rule("R3", "DNS answers of the sidecar belong to zone 2", [
      udp,
      fromPort(dns.port),
      sidecar,
    ], zone(2)),
  ];
  if (dnsServers.length === 0) {
    output.push(
      rule("R4", "DNS queries of applications belong to zone 2", [
        udp,
        toPort(DNS_PORT),
      ], zone(2)),
    );
  }
  for (const server of dnsServers) {
    output.push(
      rule("R4", `DNS queries of applications to ${server.address} belong to zone 2`, [
        to(server),
        udp,
        toPort(DNS_PORT),
      ], zone(2)),
    );
    if (isLoopback(server)) {
      // Docker's resolver 127.0.0.11 answers from a translated port, which R1 cannot know.
      output.push(
        rule("R5", `DNS answers of the local resolver ${server.address} belong to zone 1`, [
          from(server),
          to(localhost),
          udp,
        ], zone(1)),
      );
    }
  }
  return {
    name: "raw",
    chains: [baseChain("PREROUTING", prerouting), baseChain("OUTPUT", output)],
  };
}

function isLoopback({ family, address }: Cidr): boolean {
  return family === "ipv4" ? address.startsWith("127.") : address === "::1";
}

function mangleTable(): Table {
  const dropInvalid = rule("X1", "drop packets that belong to no connection", [
    { kind: "conntrack-state", state: "invalid" },
  ], { kind: "drop" });
  return { name: "mangle", chains: [baseChain("PREROUTING", [dropInvalid])] };
}
