/**
 * GET over a TLS connection of its own, for a program that asks once and ends. V8 would
 * have to compile what `fetch` brings besides, such as streams and redirects: 2 ms more in each start.
 */
import { ByteReader, type Head, readBody, readHead } from "./http1.ts";
import type { ClusterAccess } from "./kubeconfig.ts";

/** An answer with its body, which ends a little after the wanted maximum when it is longer. */
export interface WholeAnswer extends Head {
  readonly whole: Uint8Array;
}

/**
 * Sends one request.
 *
 * @param url Absolute URL.
 * @param maximum Longest body that is of interest, in bytes; of a longer one just more than that is read.
 * @returns The answer with its body, or `undefined` when this is not a case for it, or there is no
 * trusted connection: `fetch` does it, or says what is wrong.
 * @throws {Error} when the connection fails after that, or the signal's reason. Needs `--allow-net`
 * and `--allow-env` for the variables that name proxies.
 */
export async function getDirectly(
  access: ClusterAccess,
  url: string,
  headers: Readonly<Record<string, string>>,
  maximum: number,
  signal: AbortSignal,
): Promise<WholeAnswer | undefined> {
  // The parts of every URL but unusual ones; to start the class URL takes longer.
  const parts = /^https:\/\/((\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?)(\/[!-~]*)$/
    .exec(url);
  if (parts === null || !isPlain(access)) return undefined;
  const [, host = "", name = "", port = "443", target = ""] = parts;
  signal.throwIfAborted();
  const authorities = access.certificateAuthority === undefined
    ? []
    : [access.certificateAuthority];
  const hostname = name.startsWith("[") ? name.slice(1, -1) : name;
  const connection = await abortable(connect(hostname, Number(port), authorities), signal);
  if (connection === undefined) return undefined;
  const close = () => {
    try {
      connection.close();
    } catch {
      // Closed already.
    }
  };
  signal.addEventListener("abort", close, { once: true });
  try {
    let head = `GET ${target} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n`;
    for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
    let rest = new TextEncoder().encode(`${head}\r\n`);
    while (rest.length > 0) rest = rest.subarray(await connection.write(rest));
    const reader = new ByteReader(incoming(connection));
    const answer = await readHead(reader);
    // Not asked for, so nothing here can decode it.
    if (answer.headers.get("content-encoding") !== null) return undefined;
    const whole = await readBody(reader, answer, maximum);
    return { status: answer.status, headers: answer.headers, whole };
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", close);
    close();
  }
}

/** Whether there is nothing special about the way to the server. */
function isPlain(access: ClusterAccess): boolean {
  return !access.insecureSkipTlsVerify && access.tlsServerName === undefined &&
    access.clientCertificate === undefined && access.proxyUrl === undefined &&
    !Deno.env.get("HTTPS_PROXY") && !Deno.env.get("https_proxy") &&
    !Deno.env.get("ALL_PROXY") && !Deno.env.get("all_proxy");
}

/** Connects and shakes hands; `undefined` when either fails. */
async function connect(
  hostname: string,
  port: number,
  caCerts: string[],
): Promise<Deno.TlsConn | undefined> {
  let connection: { close(): void } | undefined;
  try {
    const tcp = await Deno.connect({ hostname, port });
    connection = tcp;
    // The request follows the handshake's last message, which the server need not acknowledge at once.
    tcp.setNoDelay(true);
    const tls = await Deno.startTls(tcp, { hostname, caCerts, alpnProtocols: ["http/1.1"] });
    connection = tls;
    await tls.handshake();
    return tls;
  } catch {
    connection?.close();
    return undefined;
  }
}

/** Waits no longer than the signal allows; a connection that comes later is closed. */
async function abortable<T extends { close(): void } | undefined>(
  work: Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } catch (error) {
    work.then((late) => late?.close(), () => {});
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

async function* incoming(connection: Deno.TlsConn): AsyncGenerator<Uint8Array> {
  // What is read is copied before the next read.
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const length = await connection.read(buffer);
    if (length === null) return;
    yield buffer.subarray(0, length);
  }
}
