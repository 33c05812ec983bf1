/** Probes of the laboratory as packets for the evaluator, and its words as ends of probes. */
import { type Evaluation, type FinalVerdict, type Packet } from "../../src/redirect/evaluate.ts";
import type { IpFamily } from "../../src/ip/address.ts";
import { CLOSED_PORT, OWN_ADDRESSES, type SourcedProbe } from "./arbitrary_redirect.ts";
import type { Landing } from "./laboratory.ts";

/** Evaluates a packet against all rules that are in the pod. */
export type Evaluate = (packet: Packet) => Evaluation;

/** The family of a probe. */
export function familyOf({ to }: SourcedProbe): IpFamily {
  return to.address.includes(":") ? "ipv6" : "ipv4";
}

/** Whether a probe is sent to one of the pod's own addresses. */
export function endsInPod(probe: SourcedProbe): boolean {
  return OWN_ADDRESSES[familyOf(probe)].includes(probe.to.address);
}

/** A probe's first packet as the pod meets it. */
export function packetOf(probe: SourcedProbe): Packet {
  const { direction, protocol, source, sourcePort = 30000, to, uid, through } = probe;
  return {
    family: familyOf(probe),
    direction,
    protocol,
    source,
    sourcePort,
    destination: to.address,
    destinationPort: to.port,
    ...(direction === "outbound"
      ? { outputInterface: endsInPod(probe) ? "lo" : "eth0" }
      : { inputInterface: through ?? "eth0" }),
    ...(uid === undefined ? {} : { uid }),
  };
}

/** A listener's answer to a datagram as the pod meets it, if the datagram reached any. */
export function answerTo(
  probe: SourcedProbe,
  { at, seenSource, place }: Landing,
  sidecarUid: number,
): Packet | undefined {
  if (probe.protocol !== "udp" || at === undefined || seenSource === undefined) return undefined;
  const toSelf = probe.direction === "outbound";
  return {
    family: at.address.includes(":") ? "ipv6" : "ipv4",
    protocol: "udp",
    source: at.address,
    sourcePort: at.port,
    destination: seenSource.address,
    destinationPort: seenSource.port,
    ...(place === "peer" ? { direction: "inbound" } : {
      direction: "outbound",
      uid: sidecarUid,
      outputInterface: toSelf ? "lo" : probe.through ?? "eth0",
    }),
  };
}

/**
 * Where the evaluator sends a probe, in the words of {@linkcode describeLanding}.
 *
 * @param evaluation of the probe's packet
 * @param answer of the answer to it
 */
export function expectedLanding(
  evaluate: Evaluate,
  probe: SourcedProbe,
  evaluation: Evaluation,
  answer: Evaluation | undefined,
): string {
  const { verdict, conntrackZone = 0 } = evaluation;
  if (verdict.kind === "redirect") {
    // A translated datagram's answer is translated back only in the zone of the question.
    const lost = answer !== undefined && (answer.conntrackZone ?? 0) !== conntrackZone;
    return `pod:${verdict.port}${lost ? ", no answer" : ""}`;
  }
  if (verdict.kind === "drop") return "lost";
  if (probe.to.port === CLOSED_PORT) {
    return refusalVerdict(evaluate, probe, conntrackZone).kind === "drop" ? "lost" : "refused";
  }
  return `${endsInPod(probe) ? "pod" : "peer"}:${probe.to.port}`;
}

/** What becomes of the ICMP message by which the pod learns that a UDP port is closed. */
function refusalVerdict(evaluate: Evaluate, probe: SourcedProbe, zone: number): FinalVerdict {
  if (probe.protocol !== "udp" || probe.direction !== "outbound") return { kind: "accept" };
  return evaluate({
    family: familyOf(probe),
    ...(endsInPod(probe)
      ? { direction: "outbound", outputInterface: "lo" }
      : { direction: "inbound" }),
    protocol: "icmp",
    source: probe.to.address,
    destination: probe.source,
    // It is outside of all zones and is related only to connections there.
    conntrackState: zone === 0 ? "related" : "invalid",
  }).verdict;
}

/** An end in a few words, for example `pod:15001`. */
export function describeLanding({ end, place, at, listenerPort, answered }: Landing): string {
  if (end !== "listener") return end;
  return `${place}:${listenerPort ?? at?.port}${answered ? "" : ", no answer"}`;
}
