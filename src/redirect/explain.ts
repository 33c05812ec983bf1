/** The way of a packet in words. */
import type { RedirectConfig } from "./config.ts";
import { conditionsText, familyName } from "./describe.ts";
import type { Evaluation, Packet, TraceStep } from "./evaluate.ts";

/** A short text of a packet: who sends what to where. */
export function packetText(packet: Packet): string {
  const host = (address: string, port: number | undefined) =>
    port === undefined
      ? address
      : address.includes(":")
      ? `[${address}]:${port}`
      : `${address}:${port}`;
  const source = packet.direction === "inbound"
    ? host(packet.source, packet.sourcePort)
    : packet.uid === undefined
    ? "no socket"
    : `UID ${packet.uid}`;
  const state = packet.conntrackState === undefined || packet.conntrackState === "new"
    ? ""
    : `, ${packet.conntrackState}`;
  return `${source} → ${host(packet.destination, packet.destinationPort)} ${packet.protocol}` +
    ` (${packet.direction}, ${familyName(packet.family)}${state})`;
}

/** Puts the end of a packet into words, naming the purpose of a port of the sidecar. */
export function outcomeText({ verdict }: Evaluation, config: RedirectConfig): string {
  if (verdict.kind === "drop") return "dropped";
  if (verdict.kind === "accept") return "goes direct, not redirected";
  const { inbound, outbound, dns } = config;
  const purpose = verdict.port === outbound.port
    ? "the outbound listener of the sidecar"
    : verdict.port === inbound.port || verdict.port === inbound.ipv6Port
    ? "the inbound listener of the sidecar"
    : verdict.port === dns.port
    ? "the DNS proxy of the sidecar"
    : "a port of the pod";
  return `ends at port ${verdict.port}, ${purpose}`;
}

/**
 * Describes the way of a packet: its end first, then each rule that it met.
 *
 * @returns Text with a final line end.
 */
export function explainPacket(
  packet: Packet,
  evaluation: Evaluation,
  config: RedirectConfig,
): string {
  const decisive = decisiveStep(evaluation);
  const lines = [packetText(packet), "", `  ${outcomeText(evaluation, config)}`];
  lines.push(
    decisive === undefined
      ? "  because no rule says otherwise"
      : `  because of ${decisive.rule.id}: ${decisive.rule.comment}`,
  );
  if (evaluation.conntrackZone !== undefined) {
    lines.push(`  tracked in conntrack zone ${evaluation.conntrackZone}`);
  }
  for (const note of evaluation.notes) lines.push(`  note: ${note}`);
  lines.push("");
  let place = "";
  for (const step of evaluation.steps) {
    const here = `${step.table} ${step.chain}`;
    if (here !== place) lines.push(`  ${here}`);
    place = here;
    lines.push(stepText(step));
  }
  if (evaluation.steps.length === 0) lines.push("  It meets no rule");
  else {
    lines.push(
      "",
      "  => the packet matches this rule, the others it only passes; the number is the rule's place",
      "     in its chain, the name behind it (O7, M2) that of docs/rules.md",
    );
  }
  return lines.join("\n") + "\n";
}

/** The rule that settled it; of a redirection the one that chose it, not the one that carries it out. */
function decisiveStep({ steps }: Evaluation): TraceStep | undefined {
  const matched = steps.filter((step) => step.matched);
  const last = matched.findLastIndex(({ rule }) =>
    ["redirect", "return", "drop"].includes(rule.verdict.kind)
  );
  const jump = matched[last - 1];
  return matched[last]?.rule.id.startsWith("D") && jump?.rule.verdict.kind === "jump"
    ? jump
    : matched[last];
}

function stepText({ matched, position, rule, because }: TraceStep): string {
  const mark = matched ? "=>" : "  ";
  return `  ${mark} ${`${position}`.padStart(3)} ${rule.id.padEnd(3)}  ` +
    `${conditionsText(rule).padEnd(52)}  ${because}`;
}
