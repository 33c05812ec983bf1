/**
 * What Kuma's `kuma-validation` init container checks in a meshed pod: as the sidecar's user, a
 * connection to the inbound passthrough address on a port where nobody listens must arrive at the
 * sidecar's inbound port. Runs synchronously in the network namespace that the thread is in; the
 * inbound port must be free there.
 */
import { connectTcp, formatEndpoint, listenTcp, withFileSystemUser } from "./sockets.ts";
import type { IpFamily } from "../../src/ip/address.ts";
import { messageOf } from "../../src/text/message_of.ts";

/** Settings of the check; Kuma's own values where there is a default. */
export interface ValidatorOptions {
  readonly families: readonly IpFamily[];
  /** Where the sidecar will listen for inbound traffic. */
  readonly inboundPort?: number;
  readonly sidecarUid?: number;
  readonly dialTimeoutMs?: number;
}

const LOOPBACK: Readonly<Record<IpFamily, string>> = { ipv4: "127.0.0.1", ipv6: "::1" };
const PASSTHROUGH: Readonly<Record<IpFamily, string>> = { ipv4: "127.0.0.6", ipv6: "::6" };

/**
 * Checks each family once, without the reference's ten retries.
 *
 * @returns one sentence for each family that failed; empty when redirection works
 */
export function validateRedirection(options: ValidatorOptions): string[] {
  const { families, inboundPort = 15006, sidecarUid = 5678, dialTimeoutMs = 50 } = options;
  const failures: string[] = [];
  for (const family of families) {
    const loopback = LOOPBACK[family];
    const to = {
      address: PASSTHROUGH[family],
      port: 20000 + Math.floor(Math.random() * 10000),
    };
    try {
      using listener = listenTcp({ address: loopback, port: inboundPort });
      using client = withFileSystemUser(
        sidecarUid,
        () => connectTcp(to, { source: { address: loopback, port: 0 }, timeoutMs: dialTimeoutMs }),
      );
      // Unlike the reference, which is content with any connection, make sure that it is ours.
      listener.wait(dialTimeoutMs);
      using accepted = listener.accept();
      if (accepted?.remote.port !== client.local.port) {
        throw new Error("another process answered the connection");
      }
    } catch (error) {
      const reason = messageOf(error);
      failures.push(
        `${family}: connection from ${loopback} to ${formatEndpoint(to)} as user ${sidecarUid} ` +
          `did not arrive at port ${inboundPort}: ${reason}`,
      );
    }
  }
  return failures;
}
