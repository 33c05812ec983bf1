/** Carries GET requests to an API server. */
import { messageOf } from "../text/message_of.ts";
import { type Answer, FetchAnswer } from "./answer.ts";
import { trustOnly } from "./connect.ts";
import type { ClusterAccess } from "./kubeconfig.ts";
import {
  type Destination,
  kubeconfigProxy,
  type Proxy,
  proxyOf,
  type ProxyVariables,
  readProxyVariables,
  withoutProxyVariables,
} from "./proxy.ts";
import { SingleUseTransport } from "./single_use_transport.ts";

/** Sends a GET request; what comes back has not been looked at. */
export interface Transport {
  /** The proxy on the way, if any. */
  readonly proxy: Proxy | undefined;
  /**
   * @param target Path and query.
   * @throws Whatever the network layer throws, or the signal's reason.
   */
  get(
    target: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Answer>;
  /** Closes idle connections; the transport is of no use afterwards. */
  close(): void;
}

/** What a transport is for. */
export interface TransportOptions {
  /** Most requests will be the only one: each gets a connection of its own. */
  readonly direct?: boolean;
  /** What the environment says about proxies; read from it by default. */
  readonly proxyVariables?: ProxyVariables;
}

/**
 * Chooses the transport: `fetch`, which keeps connections, or one connection for each request, where
 * that is cheaper or the server's certificate is to be judged in a way that `fetch` does not know.
 *
 * @throws {Error} when a certificate or the key cannot be used, or settings exclude each other.
 */
export async function createTransport(
  access: ClusterAccess,
  options: TransportOptions = {},
): Promise<Transport> {
  const { server, clientCertificate, tlsServerName, insecureSkipTlsVerify } = access;
  if (clientCertificate !== undefined) await checkIdentity(clientCertificate);
  const destination = destinationOf(server);
  const proxy = access.proxyUrl !== undefined
    ? kubeconfigProxy(access.proxyUrl)
    : proxyOf(options.proxyVariables ?? readProxyVariables(), destination);
  if (destination.protocol === "http") return new FetchTransport(access, proxy);
  const byNode = insecureSkipTlsVerify || tlsServerName !== undefined && clientCertificate;
  if (byNode && access.proxyUrl !== undefined) {
    throw new TypeError(
      '"proxy-url" is not supported together with "insecure-skip-tls-verify", nor with ' +
        '"tls-server-name" and a client certificate',
    );
  }
  if (byNode) return new SingleUseTransport(access, destination, undefined, true);
  const canTunnel = proxy === undefined || proxy.url.startsWith("http:");
  if (canTunnel && (tlsServerName !== undefined || options.direct && !clientCertificate)) {
    return new SingleUseTransport(access, destination, proxy, false);
  }
  if (tlsServerName === undefined) return new FetchTransport(access, proxy);
  throw new TypeError(
    `"tls-server-name" is supported together with a proxy only when that is an HTTP proxy; found ${proxy?.label}`,
  );
}

/** A server's address, with what else the kubeconfig's URL says. */
export interface ServerUrl extends Destination {
  /** What the header field `host` has. */
  readonly authority: string;
  /** Begins the path of each request; empty, or begins with a slash. */
  readonly basePath: string;
}

function destinationOf(server: string): ServerUrl {
  // The parts of every URL but unusual ones; to start the class URL takes longer.
  const parts = /^https:\/\/((\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?)((?:\/[!-~]*)?)$/
    .exec(server);
  const [, authority = "", host = "", port = "443", basePath = ""] = parts ?? [];
  if (parts !== null) {
    return { protocol: "https", authority, hostname: bare(host), port: Number(port), basePath };
  }
  const url = new URL(server);
  const protocol = url.protocol === "http:" ? "http" : "https";
  return {
    protocol,
    authority: url.host,
    hostname: bare(url.hostname),
    port: Number(url.port) || (protocol === "http" ? 80 : 443),
    basePath: url.pathname === "/" ? "" : url.pathname,
  };
}

function bare(host: string): string {
  return host.startsWith("[") ? host.slice(1, -1) : host;
}

/** HTTP/1.1 only: the few small requests gain nothing from HTTP/2, and its set-up takes longer. */
class FetchTransport implements Transport {
  readonly #server: string;
  readonly #client: Deno.HttpClient;

  constructor(access: ClusterAccess, readonly proxy: Proxy | undefined) {
    this.#server = access.server;
    const options: Deno.CreateHttpClientOptions = {
      http2: false,
      ...(access.certificateAuthority === undefined
        ? {}
        : { caCerts: [access.certificateAuthority] }),
      ...(proxy === undefined ? {} : { proxy: { url: proxy.url } }),
    };
    const { certificate: cert, key } = access.clientCertificate ?? {};
    const identity = cert === undefined || key === undefined ? {} : { cert, key };
    this.#client = trustOnly(
      access,
      () => withoutProxyVariables(() => Deno.createHttpClient({ ...options, ...identity })),
    );
  }

  async get(
    target: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Answer> {
    const response = await fetch(this.#server + target, {
      client: this.#client,
      headers,
      signal,
      // A redirect would carry the token to a place that the kubeconfig does not name.
      redirect: "manual",
    });
    return new FetchAnswer(response, signal);
  }

  close(): void {
    this.#client.close();
  }
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
    const reason = messageOf(cause);
    throw new TypeError(`The client certificate or its key cannot be parsed: ${reason}`, { cause });
  }
  if (certified.length !== owned.length || certified.some((byte, at) => byte !== owned[at])) {
    throw new TypeError("The client key is not that of the client certificate");
  }
}
