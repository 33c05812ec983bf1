/** Carries GET requests to an API server. */
import type { ClusterAccess } from "./kubeconfig.ts";

/** Sends a GET request; what comes back has not been looked at. */
export interface Transport {
  /**
   * @param url Absolute URL.
   * @throws Whatever the network layer throws, or the signal's reason.
   */
  get(
    url: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Response>;
  /** Closes idle connections; the transport is of no use afterwards. */
  close(): void;
}

/**
 * Chooses the transport: `fetch`, unless the server's certificate is to be judged in a way that
 * `fetch` does not know.
 *
 * @throws {Error} when a certificate or the key cannot be used.
 */
export async function createTransport(access: ClusterAccess): Promise<Transport> {
  if (access.clientCertificate !== undefined) await checkIdentity(access.clientCertificate);
  const https = access.server.startsWith("https:");
  if (https && (access.insecureSkipTlsVerify || access.tlsServerName !== undefined)) {
    return new LazyTlsTransport(access);
  }
  return new FetchTransport(access);
}

/** HTTP/1.1 only: the few small requests gain nothing from HTTP/2, and its set-up takes longer. */
class FetchTransport implements Transport {
  readonly #client: Deno.HttpClient;

  constructor(access: ClusterAccess) {
    this.#client = Deno.createHttpClient({
      http2: false,
      ...(access.certificateAuthority === undefined
        ? {}
        : { caCerts: [access.certificateAuthority] }),
      ...(access.clientCertificate === undefined
        ? {}
        : { cert: access.clientCertificate.certificate, key: access.clientCertificate.key }),
      ...(access.proxyUrl === undefined ? {} : { proxy: { url: access.proxyUrl } }),
    });
  }

  async get(
    url: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Response> {
    // A redirect would carry the token to a place that the kubeconfig does not name.
    return await fetch(url, { client: this.#client, headers, signal, redirect: "manual" });
  }

  close(): void {
    this.#client.close();
  }
}

/** Loads the rarely needed transport with the first request. */
class LazyTlsTransport implements Transport {
  constructor(readonly access: ClusterAccess) {
    if (access.proxyUrl !== undefined) {
      throw new TypeError(
        '"proxy-url" is not supported together with "insecure-skip-tls-verify" or "tls-server-name"',
      );
    }
  }

  async get(
    url: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Response> {
    const { getOverTls } = await import("./tls_transport.ts");
    return await getOverTls(this.access, url, headers, signal);
  }

  close(): void {}
}

/** Deno's own check of key and certificate would end the process, not throw. */
async function checkIdentity(
  identity: NonNullable<ClusterAccess["clientCertificate"]>,
): Promise<void> {
  // Imported here, since a static import would be loaded by every start of the program.
  const { createPrivateKey, createPublicKey, X509Certificate } = await import("node:crypto");
  let certified: Uint8Array;
  let owned: Uint8Array;
  try {
    const form = { type: "spki", format: "der" } as const;
    certified = new X509Certificate(identity.certificate).publicKey.export(form);
    owned = createPublicKey(createPrivateKey(identity.key)).export(form);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TypeError(`The client certificate or its key cannot be parsed: ${reason}`, { cause });
  }
  if (certified.length !== owned.length || certified.some((byte, at) => byte !== owned[at])) {
    throw new TypeError("The client key is not that of the client certificate");
  }
}
