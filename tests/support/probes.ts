/**
 * What the traffic tests and the demo try in the traffic bed, and where each attempt must end
 * without and with the rules of a default pod (Kuma 2.9: DNS redirection on, ports 9901 and 9001
 * excluded).
 */
import { ADDRESSES, type Bed, type Who } from "./bed.ts";
import type { Greeting, StandinReply } from "./standin.ts";

/** One attempt of one stand-in. */
export interface Probe {
  readonly who: Who;
  readonly kind: "tcp" | "dns-udp" | "dns-tcp";
  /** Endpoint, for example `10.93.0.3:80`. */
  readonly to: string;
  /** What the attempt stands for, in a few words. */
  readonly meaning: string;
  /** Where it ends without rules, as {@linkcode describeReply} writes it. */
  readonly before: string;
  /** Where it ends with rules. */
  readonly after: string;
}

/** Makes the attempt and describes how it ended. */
export async function attempt(bed: Bed, probe: Probe, timeoutMs = 2000): Promise<string> {
  return describeReply(
    await bed.ask(
      probe.who,
      probe.kind === "tcp" ? { connect: probe.to, timeoutMs } : {
        resolve: probe.to,
        transport: probe.kind === "dns-udp" ? "udp" : "tcp",
        timeoutMs,
      },
    ),
  );
}

/**
 * Describes how an attempt ended: `peer:80 (from 10.93.0.2)` for a direct connection,
 * `sidecar:15001 (for 10.93.0.3:80)` for a redirected one, ` -> app:8080 (from 127.0.0.6)` behind it
 * when the sidecar passed it on, the text of a DNS answer, or an error code.
 */
export function describeReply(reply: StandinReply): string {
  if ("error" in reply) return reply.error;
  if ("answer" in reply) return reply.answer;
  return describeGreeting(reply.greeting);
}

function describeGreeting({ server, port, client, original, via }: Greeting): string {
  const redirected = original !== null && !original.endsWith(`:${port}`);
  const here = `${server}:${port} (${redirected ? `for ${original}` : `from ${client}`})`;
  if (via === null) return here;
  return `${here} -> ${typeof via === "string" ? via : describeGreeting(via)}`;
}

/** The attempts of one IP family. */
export function probesOf(family: "ipv4" | "ipv6"): Probe[] {
  const { pod, peer, dns, nowhere } = ADDRESSES[family];
  const v6 = family === "ipv6";
  const at = (address: string, port: number): string =>
    v6 ? `[${address}]:${port}` : `${address}:${port}`;
  const loopback = v6 ? "::1" : "127.0.0.1";
  const passthrough = v6 ? "::6" : "127.0.0.6";
  const web = at(peer, 80);
  const app = at(pod, 8080);
  const peerDirect = `peer:80 (from ${pod})`;
  const outbound = `sidecar:15001 (for ${web})`;
  const inbound = `sidecar:15006 (for ${app}) -> app:8080 (from ${passthrough})`;
  const same = (end: string): { before: string; after: string } => ({ before: end, after: end });
  return [
    {
      who: "app",
      kind: "tcp",
      to: web,
      meaning: "outbound",
      before: peerDirect,
      after: outbound,
    },
    {
      who: "root",
      kind: "tcp",
      to: web,
      meaning: "outbound as root",
      before: peerDirect,
      after: outbound,
    },
    {
      who: "app",
      kind: "tcp",
      to: at(nowhere, 81),
      meaning: "outbound to nobody",
      before: v6 ? "ENETUNREACH" : "ENETUNREACH",
      after: `sidecar:15001 (for ${at(nowhere, 81)})`,
    },
    {
      who: "app",
      kind: "tcp",
      to: at(peer, 9901),
      meaning: "excluded outbound port",
      ...same(`peer:9901 (from ${pod})`),
    },
    { who: "sidecar", kind: "tcp", to: web, meaning: "the sidecar's own", ...same(peerDirect) },
    {
      who: "peer",
      kind: "tcp",
      to: app,
      meaning: "inbound",
      before: `app:8080 (from ${peer})`,
      after: inbound,
    },
    {
      who: "peer",
      kind: "tcp",
      to: at(pod, 9001),
      meaning: "excluded inbound port",
      ...same(`sidecar:9001 (from ${peer})`),
    },
    {
      who: "app",
      kind: "tcp",
      to: at(loopback, 8080),
      meaning: "own loopback",
      ...same(`app:8080 (from ${loopback})`),
    },
    {
      who: "app",
      kind: "tcp",
      to: app,
      meaning: "own pod address",
      ...same(`app:8080 (from ${pod})`),
    },
    {
      who: "sidecar",
      kind: "tcp",
      to: app,
      meaning: "sidecar to own pod",
      before: `app:8080 (from ${pod})`,
      after: inbound,
    },
    {
      who: "app",
      kind: "dns-udp",
      to: at(dns, 53),
      meaning: "DNS over UDP",
      before: `peer udp 53 for ${pod}`,
      after: `sidecar udp 15053 for ${pod}`,
    },
    {
      who: "app",
      kind: "dns-tcp",
      to: at(dns, 53),
      meaning: "DNS over TCP",
      before: `peer tcp 53 for ${pod}`,
      after: `sidecar tcp 15053 for ${pod}`,
    },
    {
      who: "sidecar",
      kind: "dns-udp",
      to: at(dns, 53),
      meaning: "the sidecar's own DNS",
      ...same(`peer udp 53 for ${pod}`),
    },
    {
      who: "app",
      kind: "dns-udp",
      to: at(dns, 53),
      meaning: "DNS again, after the sidecar's",
      before: `peer udp 53 for ${pod}`,
      after: `sidecar udp 15053 for ${pod}`,
    },
  ];
}
