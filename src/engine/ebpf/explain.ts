/** What the eBPF engine does with a packet's connection, in words, beside the rules' own verdict. */
import type { Evaluation, Packet } from "../../redirect/evaluate.ts";
import type { Ruleset } from "../../redirect/ruleset.ts";
import { addressBytes } from "../../ip/address.ts";
import { cannot } from "./cannot.ts";

/** The rules without those about connection tracking, which this engine does without. */
export function rulesOfEbpf(ruleset: Ruleset): Ruleset {
  if (cannot(ruleset).length > 0) return ruleset;
  return {
    ...ruleset,
    families: ruleset.families.map((rules) => ({
      ...rules,
      tables: rules.tables.filter(({ name }) => name === "nat"),
    })),
  };
}

/** Tells it, one sentence each. */
export function explainByEbpf(
  packet: Packet,
  { verdict, steps }: Evaluation,
  ruleset: Ruleset,
): string[] {
  const reasons = cannot(ruleset);
  if (reasons.length > 0) {
    return ["The eBPF engine cannot do all of this pod's rules, so nftables has them", ...reasons];
  }
  if (packet.direction === "outbound" && packet.uid === undefined) {
    return ["eBPF programs see calls of processes, and no process sends this packet"];
  }
  if ((packet.conntrackState ?? "new") !== "new") {
    return ["eBPF programs decide when a connection is made, and see no packet after that"];
  }
  if (verdict.kind !== "redirect") return ["eBPF programs let the call pass as it is"];
  const { destination, destinationPort } = packet;
  if (packet.direction === "inbound") {
    return [
      `The kernel gives the connection to the sidecar's listener of port ${verdict.port}; its own ` +
      `address stays ${destination} port ${destinationPort}`,
    ];
  }
  const outbound = steps.some(({ matched, rule }) => matched && rule.id === "D2");
  const target = packet.family === "ipv6" ? "::1" : outbound ? spread(destination) : "127.0.0.1";
  return [
    `The call connects to ${target} port ${verdict.port} instead; the process is told that its ` +
    `peer is ${destination} port ${destinationPort}`,
  ];
}

/** The address of the pod's loopback network over which connections to a destination go. */
function spread(destination: string): string {
  return `127.15.${addressBytes(destination).subarray(2).join(".")}`;
}
