/**
 * Which proxy is on the way to the API server: the kubeconfig's, else what the environment says, read
 * as Go's httpproxy reads it. Kubelet and the container runtime do so, whose variables these are.
 */
import { type Address, parseAddress, unmapped } from "../ip/address.ts";
import { contains, parseCidr } from "../ip/cidr.ts";
import { withVariables } from "./environment.ts";

/** The variables that name proxies. */
export interface ProxyVariables {
  readonly HTTP_PROXY?: string;
  readonly HTTPS_PROXY?: string;
  readonly NO_PROXY?: string;
}

/** A proxy. */
export interface Proxy {
  /** `http`, `https` or `socks5` URL, maybe with user and password. */
  readonly url: string;
  /** For messages: the URL without user and password, and where it was found. */
  readonly label: string;
}

/** Where a connection is to lead. */
export interface Destination {
  readonly protocol: "http" | "https";
  /** Name or address without brackets. */
  readonly hostname: string;
  readonly port: number;
}

/**
 * Reads the variables. Of two spellings the one in capital letters counts. Needs `--allow-env` for
 * the variables in both spellings.
 */
export function readProxyVariables(): ProxyVariables {
  const found: { -readonly [name in keyof ProxyVariables]: string } = {};
  for (const name of ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] as const) {
    const value = Deno.env.get(name) || Deno.env.get(name.toLowerCase());
    if (value) found[name] = value;
  }
  return found;
}

/** Runs work that would read the variables in another way than {@linkcode proxyOf}. */
export function withoutProxyVariables<T>(work: () => T): T {
  return withVariables(
    Object.fromEntries(
      ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].flatMap((name) => [
        [name, undefined],
        [name.toLowerCase(), undefined],
      ]),
    ),
    work,
  );
}

/** Describes the proxy that a kubeconfig names. */
export function kubeconfigProxy(url: string): Proxy {
  return describe(url, '"proxy-url" of the kubeconfig');
}

/**
 * Chooses the proxy of the environment for a destination.
 *
 * @returns `undefined` when the way leads there directly.
 * @throws {TypeError} when the variable does not hold a proxy's address.
 */
export function proxyOf(
  variables: ProxyVariables,
  destination: Destination,
): Proxy | undefined {
  const name = destination.protocol === "https" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const text = variables[name]?.trim();
  if (text === undefined || text === "" || isExempt(destination, variables.NO_PROXY ?? "")) {
    return undefined;
  }
  const url = text.includes("://") ? text : `http://${text}`;
  const parsed = URL.parse(url);
  if (parsed !== null && parsed.host !== "" && /^(https?|socks5h?):$/.test(parsed.protocol)) {
    return describe(url, name);
  }
  throw new TypeError(`${name} does not hold the address of a proxy; expected "http://host:port"`);
}

function describe(url: string, origin: string): Proxy {
  const { protocol, host } = new URL(url);
  return { url, label: `proxy "${protocol}//${host}" of ${origin}` };
}

/**
 * Tells whether a destination is reached without a proxy. Entries are separated by commas: `*`, an
 * address, a range (CIDR), a name with those below it, or with a dot or `*.` in front only those below
 * it; all but ranges with a port or without. This machine itself never needs a proxy.
 *
 * @param noProxy Value of `NO_PROXY`.
 */
export function isExempt({ hostname, port }: Destination, noProxy: string): boolean {
  const host = hostname.toLowerCase();
  const address = addressOf(host);
  if (
    host === "localhost" ||
    address !== undefined && loopback.some((range) => contains(range, address))
  ) return true;
  return noProxy.split(",").some((part) => {
    const entry = part.trim().toLowerCase();
    if (entry === "*") return true;
    const range = entry.includes("/") ? parseCidr(entry) : undefined;
    if (range !== undefined) return address !== undefined && contains(range, address);
    const { name, port: wantedPort } = splitPort(entry);
    if (name === "" || wantedPort !== "" && wantedPort !== String(port)) return false;
    const wanted = name.includes("/") ? undefined : parseCidr(name);
    if (wanted !== undefined) return address !== undefined && contains(wanted, address);
    const suffix = name.replace(/^\*\./, ".");
    return suffix.startsWith(".")
      ? host.endsWith(suffix)
      : host === suffix || host.endsWith(`.${suffix}`);
  });
}

/** Takes the port off an entry; brackets round an IPv6 address, too. */
function splitPort(entry: string): { readonly name: string; readonly port: string } {
  const [, bracketed, plain, port = ""] = /^(?:\[([^\]]*)\]|([^:]*))(?::([^:]*))?$/.exec(entry) ??
    [undefined, undefined, entry];
  return { name: bracketed ?? plain ?? "", port };
}

/** An address as text; an IPv4 address that is written as IPv6 is the IPv4 address. */
function addressOf(text: string): Address | undefined {
  const address = parseAddress(text);
  return address && unmapped(address);
}

const loopback = ["127.0.0.0/8", "::1/128"].map((text) => parseCidr(text)!);
