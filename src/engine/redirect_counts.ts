/** How much the rules of a pod have redirected since they were installed. */

/** Whole numbers; what cannot be counted is not there at all. */
export interface RedirectCounts {
  /** TCP connections that were sent to the sidecar's outbound listener. */
  readonly outbound: number;
  /** TCP connections that were sent to the sidecar's inbound listener. */
  readonly inbound: number;
  /** DNS over UDP and TCP; with rules it is one for all questions from one port in a short time. */
  readonly dns: number;
}

/** One rule that redirects: to which port, and how many connections. */
export interface CountedRedirect {
  readonly port: number;
  readonly connections: number;
}

/** The sidecar's ports, by which redirections are told apart. */
export interface SidecarPorts {
  readonly outbound: number;
  readonly inbound: readonly number[];
  readonly dns: number;
}

/** Adds up; a port that is not the sidecar's counts for nothing. Pure. */
export function sumOfRedirects(
  redirects: readonly CountedRedirect[],
  ports: SidecarPorts,
): RedirectCounts {
  const sum = (isIt: (port: number) => boolean) =>
    redirects.reduce((sum, { port, connections }) => isIt(port) ? sum + connections : sum, 0);
  return {
    outbound: sum((port) => port === ports.outbound),
    inbound: sum((port) => ports.inbound.includes(port)),
    dns: sum((port) => port === ports.dns),
  };
}
