/**
 * Connects with Node's TLS, for what Deno's own cannot do: not to look at the server's certificate, and
 * to show a client certificate to a server that is to have another name.
 */
import type { TLSSocket } from "node:tls";
import { type Connection, type ServerAddress, trustOnly } from "./connect.ts";
import type { ClusterAccess } from "./kubeconfig.ts";

/**
 * Connects; the handshake goes on with the first write.
 *
 * @param signal Ends the connection.
 * @throws {Error} when Node's TLS cannot be loaded, or the signal's reason. Needs `--allow-net`.
 */
export async function connectWithNode(
  access: ClusterAccess,
  server: ServerAddress,
  signal: AbortSignal,
): Promise<Connection> {
  // Imported here, since a static import would be loaded by every start of the program.
  const { connect } = await import("node:tls");
  // Node's TLS begins later, when the list of authorities must be made already.
  trustOnly(access, () => Deno.createHttpClient({}).close());
  signal.throwIfAborted();
  const socket = connect({
    host: server.hostname,
    port: server.port,
    ALPNProtocols: ["http/1.1"],
    ...(access.tlsServerName === undefined ? {} : { servername: access.tlsServerName }),
    rejectUnauthorized: !access.insecureSkipTlsVerify,
    ...(access.certificateAuthority === undefined ? {} : { ca: access.certificateAuthority }),
    ...(access.clientCertificate === undefined
      ? {}
      : { cert: access.clientCertificate.certificate, key: access.clientCertificate.key }),
  });
  return new NodeConnection(socket);
}

class NodeConnection implements Connection {
  readonly #socket: TLSSocket;
  readonly #pieces: AsyncIterator<Uint8Array>;
  #rest = new Uint8Array();

  constructor(socket: TLSSocket) {
    this.#socket = socket;
    // Read piece by piece: the socket is paused while nobody asks.
    this.#pieces = socket[Symbol.asyncIterator]();
  }

  async read(buffer: Uint8Array): Promise<number | null> {
    if (this.#rest.length === 0) {
      const { done, value } = await this.#pieces.next();
      if (done === true) return null;
      this.#rest = new Uint8Array(value);
    }
    const part = this.#rest.subarray(0, buffer.length);
    buffer.set(part);
    this.#rest = this.#rest.subarray(part.length);
    return part.length;
  }

  write(bytes: Uint8Array): Promise<number> {
    this.#socket.write(bytes);
    return Promise.resolve(bytes.length);
  }

  close(): void {
    this.#socket.destroy();
  }
}
