/**
 * GET over a TLS connection of its own, for the two kubeconfig settings that `fetch` cannot follow:
 * `insecure-skip-tls-verify` and `tls-server-name`.
 */
import type { TLSSocket } from "node:tls";
import { ByteReader, readResponse } from "./http1.ts";
import type { ClusterAccess } from "./kubeconfig.ts";

/**
 * Sends one request on a new connection, which ends with the answer's body.
 *
 * @throws {Error} of the network or TLS layer, or the signal's reason.
 */
export async function getOverTls(
  access: ClusterAccess,
  url: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Response> {
  signal.throwIfAborted();
  const { hostname, port, host, pathname, search } = new URL(url);
  // Imported here, since a static import would be loaded by every start of the program.
  const { connect } = await import("node:tls");
  const address = hostname.replace(/^\[|\]$/g, "");
  const socket = connect({
    host: address,
    port: port === "" ? 443 : Number(port),
    ALPNProtocols: ["http/1.1"],
    ...(access.tlsServerName === undefined ? {} : { servername: access.tlsServerName }),
    rejectUnauthorized: !access.insecureSkipTlsVerify,
    ...(access.certificateAuthority === undefined ? {} : { ca: access.certificateAuthority }),
    ...(access.clientCertificate === undefined
      ? {}
      : { cert: access.clientCertificate.certificate, key: access.clientCertificate.key }),
  });
  const abort = () => socket.destroy();
  signal.addEventListener("abort", abort, { once: true });
  const close = () => {
    signal.removeEventListener("abort", abort);
    socket.destroy();
  };
  try {
    const reader = new ByteReader(incoming(socket));
    const head = Object.entries({ host, ...headers, connection: "close" })
      .map(([name, value]) => `${name}: ${value}\r\n`).join("");
    socket.write(`GET ${pathname}${search} HTTP/1.1\r\n${head}\r\n`);
    return await readResponse(reader, close);
  } catch (error) {
    close();
    signal.throwIfAborted();
    throw error;
  }
}

/** The socket's bytes; the socket is paused while nobody asks for them. */
async function* incoming(socket: TLSSocket): AsyncGenerator<Uint8Array> {
  for await (const chunk of socket) yield chunk as Uint8Array;
}
