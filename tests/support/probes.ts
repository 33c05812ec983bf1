/**
 * What the traffic tests and the demo try in the traffic bed, and where each attempt must end
 * without and with the rules of a pod.
 */
import { ADDRESSES, type Bed, type Who } from "./bed.ts";
import type { Greeting, StandinReply } from "./standin.ts";

/**
 * Whose rules: `2.9`: the default pod of Kuma 2.9 (DNS redirected, outbound port 9901 and inbound
 * ports 9901 and 9001 excluded); `3`: that of Kuma 3 (DNS redirected over UDP only, inbound ports
 * 9001 and 9902 excluded); `bare`: defaults of the rules (no DNS, no exclusions).
 */
export type PodForm = "2.9" | "3" | "bare";

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

/** The attempts of one IP family, and where they end for a pod of that form. */
export function probesOf(family: "ipv4" | "ipv6", form: PodForm): Probe[] {
  const { pod, peer, dns, nowhere } = ADDRESSES[family];
  const v6 = family === "ipv6";
  const at = (address: string, port: number): string =>
    v6 ? `[${address}]:${port}` : `${address}:${port}`;
  const loopback = v6 ? "::1" : "127.0.0.1";
  const passthrough = v6 ? "::6" : "127.0.0.6";
  const web = at(peer, 80);
  const app = at(pod, 8080);
  const resolver = at(dns, 53);

  const outbound = (to: string): string => `sidecar:15001 (for ${to})`;
  const inbound = (to: string, behind: string): string =>
    `sidecar:15006 (for ${to}) -> ${behind} (from ${passthrough})`;
  const dnsBefore = (transport: string): string => `peer ${transport} 53 for ${pod}`;
  const dnsProxy = (transport: string): string => `sidecar ${transport} 15053 for ${pod}`;

  const probe = (
    who: Who,
    kind: Probe["kind"],
    to: string,
    meaning: string,
    before: string,
    after = before,
  ): Probe => ({ who, kind, to, meaning, before, after });

  const peerDirect = `peer:80 (from ${pod})`;
  const admin = at(peer, 9901);
  const probeProxy = at(pod, 9001);
  const udpAfter = form === "bare" ? dnsBefore("udp") : dnsProxy("udp");
  const tcpDnsAfter = form === "2.9" ? dnsProxy("tcp") : dnsBefore("tcp");
  return [
    probe("app", "tcp", web, "outbound", peerDirect, outbound(web)),
    probe("root", "tcp", web, "outbound, as root", peerDirect, outbound(web)),
    probe(
      "app",
      "tcp",
      at(nowhere, 81),
      "outbound, nobody there",
      "ENETUNREACH",
      outbound(at(nowhere, 81)),
    ),
    probe(
      "app",
      "tcp",
      admin,
      form === "2.9" ? "outbound, excluded port" : "outbound, port 9901",
      `peer:9901 (from ${pod})`,
      form === "2.9" ? undefined : outbound(admin),
    ),
    probe("sidecar", "tcp", web, "the sidecar's own", peerDirect),
    probe(
      "peer",
      "tcp",
      app,
      "inbound",
      `app:8080 (from ${peer})`,
      inbound(app, "app:8080"),
    ),
    probe(
      "peer",
      "tcp",
      probeProxy,
      form === "bare" ? "inbound, port 9001" : "inbound, excluded port",
      `sidecar:9001 (from ${peer})`,
      form === "bare" ? inbound(probeProxy, "sidecar:9001") : undefined,
    ),
    probe(
      "app",
      "tcp",
      at(loopback, 8080),
      "own loopback",
      `app:8080 (from ${loopback})`,
    ),
    probe("app", "tcp", app, "own pod address", `app:8080 (from ${pod})`),
    probe(
      "sidecar",
      "tcp",
      app,
      "sidecar to own pod",
      `app:8080 (from ${pod})`,
      inbound(app, "app:8080"),
    ),
    probe("app", "dns-udp", resolver, "DNS over UDP", dnsBefore("udp"), udpAfter),
    // Without DNS redirection, port 53 over TCP ends at a listener that does not speak DNS.
    ...form === "bare"
      ? []
      : [probe("app", "dns-tcp", resolver, "DNS over TCP", dnsBefore("tcp"), tcpDnsAfter)],
    probe("sidecar", "dns-udp", resolver, "the sidecar's own DNS", dnsBefore("udp")),
    probe("app", "dns-udp", resolver, "DNS again, after that", dnsBefore("udp"), udpAfter),
  ];
}
