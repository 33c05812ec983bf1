/** Connects to an API server over TLS, directly or through an HTTP proxy. */
import { ByteReader, type ByteSource, readHead } from "./http1.ts";
import type { ClusterAccess } from "./kubeconfig.ts";
import type { Proxy } from "./proxy.ts";
import { trustingNobodyElse } from "./trust.ts";
import { Turns } from "./turns.ts";

/** A connection that carries one request and its answer. */
export interface Connection extends ByteSource {
  write(bytes: Uint8Array): Promise<number>;
  /** Ends it, also for a read or write that waits. */
  close(): void;
}

/** Where a server is. */
export interface ServerAddress {
  /** Name or address without brackets. */
  readonly hostname: string;
  readonly port: number;
  /** What the header field `host` has. */
  readonly authority: string;
}

/**
 * Connects and shakes hands.
 *
 * @param signal Ends the attempt at any point, and nothing is left open.
 * @throws {Error} when there is no trusted connection, or the signal's reason. Needs `--allow-net`.
 */
export async function connect(
  access: ClusterAccess,
  server: ServerAddress,
  proxy: Proxy | undefined,
  signal: AbortSignal,
): Promise<Connection> {
  signal.throwIfAborted();
  const next = proxy === undefined ? server : new URL(proxy.url);
  const hostname = next.hostname.replace(/^\[|\]$/g, "");
  const opening = Deno.connect({ hostname, port: Number(next.port) || 80 });
  let open: { close(): void } | undefined;
  let aborted = false;
  const abort = () => {
    aborted = true;
    closeQuietly(open);
    // One that comes later is closed as well.
    opening.then(closeQuietly, () => {});
  };
  signal.addEventListener("abort", abort, { once: true });
  try {
    const tcp = await opening;
    open = tcp;
    if (aborted) closeQuietly(tcp);
    // The request follows the handshake's last message, which the server need not acknowledge at once.
    tcp.setNoDelay(true);
    if (proxy !== undefined) await openTunnel(tcp, server, proxy, signal);
    const tls = await trustOnly(access, () =>
      Deno.startTls(tcp, {
        hostname: access.tlsServerName ?? server.hostname,
        caCerts: access.certificateAuthority === undefined ? [] : [access.certificateAuthority],
        alpnProtocols: ["http/1.1"],
      }));
    open = tls;
    if (aborted) closeQuietly(tls);
    await tls.handshake();
    signal.throwIfAborted();
    return tls;
  } catch (error) {
    closeQuietly(open);
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Lets nobody but the kubeconfig's authority count, if it names one. */
export function trustOnly<T>(access: ClusterAccess, useTls: () => T): T {
  return access.certificateAuthority === undefined ? useTls() : trustingNobodyElse(useTls);
}

/** Sends all bytes. */
export async function writeAll(connection: Connection, text: string): Promise<void> {
  let rest = new TextEncoder().encode(text);
  while (rest.length > 0) rest = rest.subarray(await connection.write(rest));
}

/** Closes what may be closed already. */
export function closeQuietly(open: { close(): void } | undefined): void {
  try {
    open?.close();
  } catch {
    // Closed already.
  }
}

/** Asks a proxy for a way to the server (RFC 9110 §9.3.6). */
async function openTunnel(
  tcp: Connection,
  server: ServerAddress,
  proxy: Proxy,
  signal: AbortSignal,
): Promise<void> {
  const { username, password } = new URL(proxy.url);
  const host = server.hostname.includes(":") ? `[${server.hostname}]` : server.hostname;
  const target = `${host}:${server.port}`;
  const login = username === "" && password === ""
    ? ""
    : `proxy-authorization: Basic ${
      new TextEncoder().encode(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`)
        .toBase64()
    }\r\n`;
  await writeAll(tcp, `CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n${login}\r\n`);
  const { status } = await readHead(new ByteReader(tcp, new Turns(signal)));
  if (status >= 300) throw new Error(`the proxy refused the way to ${target} with ${status}`);
}
