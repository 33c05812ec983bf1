/** The nat table: which connections end at the sidecar. */
import type { Range, UidExclusion } from "./config.ts";
import { DNS_PORT } from "./defaults.ts";
import type { FamilyContext } from "./family_context.ts";
import {
  baseChain,
  from,
  jump,
  leave,
  leavesBy,
  notOwnedBy,
  notTo,
  notToPort,
  ownedBy,
  receivedOn,
  redirect,
  rule,
  tcp,
  to,
  toPort,
  toPorts,
  udp,
} from "./matches.ts";
import { type Chain, CHAIN_PREFIX, type Rule, type Table } from "./ruleset.ts";

const INBOUND = `${CHAIN_PREFIX}_INBOUND`;
const OUTBOUND = `${CHAIN_PREFIX}_OUTBOUND`;
const INBOUND_REDIRECT = `${CHAIN_PREFIX}_INBOUND_REDIRECT`;
const OUTBOUND_REDIRECT = `${CHAIN_PREFIX}_OUTBOUND_REDIRECT`;

/** Compiles the nat table of one family. */
export function natTable(context: FamilyContext): Table {
  const { config: { inbound, outbound }, family } = context;
  const inboundPort = family === "ipv6" ? inbound.ipv6Port ?? inbound.port : inbound.port;
  return {
    name: "nat",
    chains: [
      baseChain("PREROUTING", prerouting(context)),
      baseChain("OUTPUT", output(context)),
      chain(INBOUND, inboundRules(context)),
      chain(OUTBOUND, outboundRules(context)),
      chain(INBOUND_REDIRECT, [
        rule("D1", "to the inbound listener of the sidecar", [tcp], redirect(inboundPort)),
      ]),
      chain(OUTBOUND_REDIRECT, [
        rule("D2", "to the outbound listener of the sidecar", [tcp], redirect(outbound.port)),
      ]),
    ],
  };
}

function chain(name: string, rules: readonly Rule[]): Chain {
  return { name, base: false, rules };
}

function prerouting({ config, family }: FamilyContext): Rule[] {
  const rules: Rule[] = [];
  if (config.log.enabled) rules.push(logRule("P1", "PREROUTING:", config.log.level, "append"));
  const networks = config.virtualNetworks
    .filter((network) => network.cidr.family === family)
    .toSorted((a, b) => compareBytes(a.interfaceName, b.interfaceName));
  for (const { interfaceName, cidr } of networks) {
    rules.push(
      rule(
        "P3",
        `DNS of the virtual network behind ${interfaceName} goes to the sidecar`,
        [receivedOn(interfaceName), udp, toPort(DNS_PORT)],
        redirect(config.dns.port),
        "insert",
      ),
    );
    // Nothing leaves a network of all addresses, and iptables-nft cannot say "not to any address".
    if (cidr.prefix === 0) continue;
    rules.push(
      rule(
        "P4",
        `what leaves the virtual network behind ${interfaceName} is outbound traffic`,
        [notTo(cidr), receivedOn(interfaceName), tcp],
        redirect(config.outbound.port),
        "insert",
      ),
    );
  }
  const insert = networks.length > 0 || config.inbound.insertInsteadOfAppend;
  rules.push(
    rule(
      insert ? "P5" : "P2",
      "incoming TCP",
      [tcp],
      jump(INBOUND),
      insert ? "insert" : "append",
    ),
  );
  return rules;
}

/** Interface names are ASCII, so that code units are bytes. */
function compareBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function output(context: FamilyContext): Rule[] {
  const { config, family, dns, dnsServers, dockerOutput } = context;
  const sidecar = { from: config.sidecarUid, to: config.sidecarUid };
  const rules: Rule[] = [];
  if (config.log.enabled) rules.push(logRule("O1", "OUTPUT:", config.log.level, "insert"));
  for (const exclusion of config.outbound.excludeUids) rules.push(...uidExclusionRules(exclusion));
  for (const cidr of config.outbound.excludeIps) {
    if (cidr.family !== family) continue;
    rules.push(
      rule(
        "O3",
        `outgoing traffic to ${cidr.address}/${cidr.prefix} is excluded`,
        [to(cidr)],
        leave,
        "insert",
      ),
    );
  }
  if (dns) {
    rules.push(
      rule(
        "O4",
        "DNS queries of the sidecar go to the real server",
        [udp, toPort(DNS_PORT), ownedBy(sidecar)],
        dockerOutput ? jump("DOCKER_OUTPUT") : leave,
        "insert",
      ),
    );
    for (const destination of dnsServers.length === 0 ? [undefined] : dnsServers) {
      rules.push(
        rule(
          "O5",
          destination === undefined
            ? "DNS queries of applications go to the sidecar"
            : `DNS queries of applications to ${destination.address} go to the sidecar`,
          [...(destination === undefined ? [] : [to(destination)]), udp, toPort(DNS_PORT)],
          redirect(config.dns.port),
          "insert",
        ),
      );
    }
    if (config.rulesVersion === "3") {
      rules.push(
        rule(
          "O6",
          "DNS over TCP of applications goes direct",
          [tcp, toPort(DNS_PORT), notOwnedBy(sidecar)],
          leave,
        ),
      );
    }
  }
  rules.push(
    rule(
      "O7",
      "outgoing TCP",
      [tcp],
      jump(OUTBOUND),
      config.outbound.insertInsteadOfAppend ? "insert" : "append",
    ),
  );
  return rules;
}

/** A `multiport` match holds at most this many numbers; a range counts twice. */
const MULTIPORT_SLOTS = 15;

function uidExclusionRules({ protocol, ports, uids }: UidExclusion): Rule[] {
  const who = uids.from === uids.to ? `UID ${uids.from}` : `UIDs ${uids.from}-${uids.to}`;
  return splitPorts(ports).map((part) =>
    rule(
      "O2",
      `${protocol.toUpperCase()} of ${who} to some ports is excluded`,
      [protocol === "tcp" ? tcp : udp, toPorts(part), ownedBy(uids)],
      leave,
      "insert",
    )
  );
}

function splitPorts(ports: readonly Range[]): Range[][] {
  const parts: Range[][] = [];
  let free = 0;
  for (const range of ports) {
    const slots = range.from === range.to ? 1 : 2;
    if (free < slots) {
      parts.push([]);
      free = MULTIPORT_SLOTS;
    }
    parts.at(-1)!.push(range);
    free -= slots;
  }
  return parts;
}

function inboundRules({ config: { inbound }, family }: FamilyContext): Rule[] {
  if (!inbound.enabled) {
    return [rule("I1", "inbound redirection is off", [tcp], leave)];
  }
  const rules = inbound.excludeIps
    .filter((cidr) => cidr.family === family)
    .map((cidr) =>
      rule(
        "I2",
        `incoming traffic from ${cidr.address}/${cidr.prefix} is excluded`,
        [from(cidr)],
        leave,
      )
    );
  for (const port of inbound.includePorts) {
    rules.push(
      rule("I3", `incoming port ${port} is included`, [tcp, toPort(port)], jump(INBOUND_REDIRECT)),
    );
  }
  if (inbound.includePorts.length > 0) return rules;
  for (const port of inbound.excludePorts) {
    rules.push(rule("I4", `incoming port ${port} is excluded`, [tcp, toPort(port)], leave));
  }
  rules.push(
    rule("I5", "all other incoming TCP goes to the sidecar", [tcp], jump(INBOUND_REDIRECT)),
  );
  return rules;
}

function outboundRules(context: FamilyContext): Rule[] {
  const { config, dns, dnsServers, localhost, loopback, passthrough } = context;
  const { outbound } = config;
  if (!outbound.enabled) {
    return [rule("M1", "outbound redirection is off", [tcp], leave)];
  }
  const sidecar = { from: config.sidecarUid, to: config.sidecarUid };
  const tcpDns = dns && config.rulesVersion === "2.9";
  const butDns = tcpDns ? [notToPort(DNS_PORT)] : [];
  const include = outbound.includePorts.length > 0;
  const rules: Rule[] = [];
  for (const port of include ? [] : outbound.excludePorts) {
    rules.push(rule("M2", `outgoing port ${port} is excluded`, [tcp, toPort(port)], leave));
  }
  rules.push(
    rule(
      "M3",
      "what the sidecar hands to the application must not come back",
      [from(passthrough), leavesBy(loopback)],
      leave,
    ),
    rule(
      "M4",
      "the sidecar calling an address of its own pod is incoming traffic",
      [notTo(localhost), leavesBy(loopback), tcp, ...butDns, ownedBy(sidecar)],
      jump(INBOUND_REDIRECT),
    ),
    rule(
      "M5",
      "an application calling its own pod stays direct",
      [leavesBy(loopback), tcp, ...butDns, notOwnedBy(sidecar)],
      leave,
    ),
    rule("M6", "outgoing traffic of the sidecar is final", [ownedBy(sidecar)], leave),
  );
  if (tcpDns) {
    for (const destination of dnsServers.length === 0 ? [undefined] : dnsServers) {
      rules.push(
        rule(
          "M7",
          "DNS over TCP of applications goes to the sidecar",
          [...(destination === undefined ? [] : [to(destination)]), tcp, toPort(DNS_PORT)],
          redirect(config.dns.port),
        ),
      );
    }
  }
  rules.push(rule("M8", "localhost stays direct", [to(localhost)], leave));
  for (const port of outbound.includePorts) {
    rules.push(
      rule("M9", `outgoing port ${port} is included`, [
        tcp,
        toPort(port),
      ], jump(OUTBOUND_REDIRECT)),
    );
  }
  if (!include) {
    rules.push(
      rule("M10", "all other outgoing TCP goes to the sidecar", [], jump(OUTBOUND_REDIRECT)),
    );
  }
  return rules;
}

function logRule(id: string, prefix: string, level: number, placement: Rule["placement"]): Rule {
  return rule(id, "log", [], { kind: "log", prefix, level }, placement);
}
