/**
 * Which proxy is on the way to the API server: the kubeconfig's, else what the environment says, read
 * as Go's httpproxy reads it. Kubelet and the container runtime do so, whose variables these are.
 */
import { addressBytes } from "../linux/ip_address.ts";

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

const names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] as const;

/** What was taken out of the environment. */
const taken: Record<string, string> = {};

/**
 * Takes the variables out of the environment, where `fetch` would read them in its own way. Of two
 * spellings the one in capital letters counts. Needs `--allow-env` for the variables in both
 * spellings.
 */
export function takeProxyVariables(): ProxyVariables {
  for (const name of [...names, "ALL_PROXY"]) {
    for (const spelling of [name, name.toLowerCase()]) {
      const value = Deno.env.get(spelling);
      if (value === undefined) continue;
      taken[spelling] = value;
      Deno.env.delete(spelling);
    }
  }
  const found: { -readonly [name in keyof ProxyVariables]: string } = {};
  for (const name of names) {
    const value = taken[name] || taken[name.toLowerCase()];
    if (value) found[name] = value;
  }
  return found;
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
  const address = parseAddress(host);
  if (host === "localhost" || address !== undefined && isLoopback(address)) return true;
  return noProxy.split(",").some((part) => {
    const entry = part.trim().toLowerCase();
    if (entry === "*") return true;
    const range = parseRange(entry);
    if (range !== undefined) return address !== undefined && contains(range, address);
    const { name, port: wantedPort } = splitPort(entry);
    if (name === "" || wantedPort !== "" && wantedPort !== String(port)) return false;
    const wanted = parseAddress(name);
    if (wanted !== undefined) return address !== undefined && isEqual(wanted, address);
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

type Address = Uint8Array<ArrayBuffer>;

/** The bytes of an address; an IPv4 address that is written as IPv6 is the IPv4 address. */
function parseAddress(text: string): Address | undefined {
  let bytes: Address;
  try {
    bytes = addressBytes(text);
  } catch {
    return undefined;
  }
  const isMapped = bytes.length === 16 && bytes[10] === 0xff && bytes[11] === 0xff &&
    bytes.subarray(0, 10).every((byte) => byte === 0);
  return isMapped ? bytes.slice(12) : bytes;
}

interface Range {
  readonly address: Address;
  readonly bits: number;
}

function parseRange(entry: string): Range | undefined {
  const [, text = "", length = ""] = /^(.*)\/([0-9]{1,3})$/.exec(entry) ?? [];
  const address = parseAddress(text);
  const bits = Number(length);
  return address === undefined || bits > address.length * 8 ? undefined : { address, bits };
}

function contains({ address, bits }: Range, other: Address): boolean {
  return address.length === other.length && address.every((byte, at) => {
    const mask = 0xff00 >> Math.min(8, Math.max(0, bits - at * 8)) & 0xff;
    return (byte & mask) === (other[at]! & mask);
  });
}

function isEqual(one: Address, other: Address): boolean {
  return contains({ address: one, bits: one.length * 8 }, other);
}

function isLoopback(address: Address): boolean {
  return address.length === 4
    ? address[0] === 127
    : address.every((byte, at) => byte === (at === 15 ? 1 : 0));
}
