/** Reads a kubeconfig file: how to reach the API server, and as whom. */
// @ts-types="../types/std_yaml_parse.d.ts"
import { parse } from "@std/yaml/parse";
import { isRecord } from "../json/record.ts";
import { LinuxError } from "../linux/errno.ts";
import { isOutOfResources, readRegularFile } from "../linux/regular_file.ts";
import { messageOf } from "../text/message_of.ts";

/** How to reach an API server, and as whom. */
export interface ClusterAccess {
  /** `http` or `https` URL without a trailing slash; may have a path. */
  readonly server: string;
  /** Certificate authorities of the server, PEM; the public ones when absent. */
  readonly certificateAuthority?: string;
  /** Bearer token; `tokenFile` wins when both are there. */
  readonly token?: string;
  /** Absolute path of a file that holds the bearer token and may change at any time. */
  readonly tokenFile?: string;
  /** Client certificate and its key, both PEM. */
  readonly clientCertificate?: { readonly certificate: string; readonly key: string };
  /** Accept any server certificate. */
  readonly insecureSkipTlsVerify: boolean;
  /** Name that the server's certificate must be for, instead of the URL's host. */
  readonly tlsServerName?: string;
  /** `http`, `https` or `socks5` URL of a proxy. */
  readonly proxyUrl?: string;
}

/** A kubeconfig cannot be used; the message names file, key, what was expected and the fix. */
export class KubeconfigError extends Error {
  override readonly name = "KubeconfigError";
  /** The machine has run out of descriptors or memory: nothing is wrong with the file. */
  readonly temporary: boolean;
  constructor(readonly path: string, problem: string, options?: ErrorOptions) {
    super(`Cannot use kubeconfig "${path}": ${problem}`, options);
    this.temporary = isOutOfResources(options?.cause);
  }
}

/**
 * Reads a kubeconfig and the certificate and key files that it names.
 *
 * @param path Absolute path of the file; relative paths in it count from its folder.
 * @throws {KubeconfigError} when a file cannot be read or does not hold what is needed.
 */
export function loadKubeconfig(path: string): ClusterAccess {
  return parseKubeconfig(readText(path, path, "the file"), path);
}

/**
 * Parses a kubeconfig's text; reads the files that it names, except `tokenFile`.
 *
 * @param path The text's path, for relative paths and messages.
 * @throws {KubeconfigError} as {@link loadKubeconfig}.
 */
export function parseKubeconfig(text: string, path: string): ClusterAccess {
  const file = new KubeconfigFile(path, valuesOf(text, path));
  const context = file.named("contexts", "context", file.text("current-context"));
  const cluster = file.named("clusters", "cluster", context.text("cluster"));
  const user = file.named("users", "user", context.text("user"));
  refuseUnsupported(user);

  const insecureSkipTlsVerify = cluster.boolean("insecure-skip-tls-verify");
  const certificateAuthority = cluster.pem("certificate-authority", "CERTIFICATE");
  const certificate = user.pem("client-certificate", "CERTIFICATE");
  const key = user.pem("client-key", "PRIVATE KEY");
  if ((certificate === undefined) !== (key === undefined)) {
    throw user.error(
      certificate === undefined ? "client-certificate-data" : "client-key-data",
      "is missing; a client certificate and its key are only of use together",
    );
  }
  const token = user.optionalText("token");
  if (token !== undefined) checkToken(token, (problem) => user.error("token", problem));
  const tokenFile = user.optionalText("tokenFile");
  const tlsServerName = cluster.optionalText("tls-server-name");
  const proxyUrl = cluster.optionalText("proxy-url");
  if (proxyUrl !== undefined) checkUrl(cluster, "proxy-url", proxyUrl, ["http", "https", "socks5"]);
  const server = cluster.text("server");
  checkUrl(cluster, "server", server, ["http", "https"]);
  return {
    server: server.replace(/\/+$/, ""),
    insecureSkipTlsVerify,
    ...(certificateAuthority === undefined ? {} : { certificateAuthority }),
    ...(token === undefined ? {} : { token }),
    ...(tokenFile === undefined ? {} : { tokenFile: resolvePath(path, tokenFile) }),
    ...(certificate === undefined || key === undefined
      ? {}
      : { clientCertificate: { certificate, key } }),
    ...(tlsServerName === undefined ? {} : { tlsServerName }),
    ...(proxyUrl === undefined ? {} : { proxyUrl }),
  };
}

/**
 * Reads a bearer token from its file, without surrounding white space.
 *
 * @throws {KubeconfigError} when the file cannot be read or holds no token.
 */
export function readTokenFile(path: string): string {
  const token = readText(path, path, "the token's file").trim();
  checkToken(token, (problem) => new KubeconfigError(path, `the token ${problem}`));
  return token;
}

/** A part of the file that holds keys and values. */
class KubeconfigSection {
  constructor(
    readonly path: string,
    /** Where in the file, for messages: empty, or ending in a dot. */
    readonly place: string,
    readonly values: Readonly<Record<string, unknown>>,
  ) {}

  error(key: string, problem: string, cause?: unknown): KubeconfigError {
    return new KubeconfigError(
      this.path,
      `"${this.place}${key}" ${problem}`,
      cause === undefined ? undefined : { cause },
    );
  }

  value(key: string): unknown {
    return Object.hasOwn(this.values, key) ? this.values[key] ?? undefined : undefined;
  }

  optionalText(key: string): string | undefined {
    const value = this.value(key);
    if (value === undefined) return undefined;
    if (typeof value !== "string") throw this.error(key, `is ${kindOf(value)}; expected text`);
    if (value.trim() === "") throw this.error(key, "is empty; remove the key or give it a value");
    return value;
  }

  text(key: string): string {
    const value = this.optionalText(key);
    if (value === undefined) throw this.error(key, "is missing");
    return value;
  }

  boolean(key: string): boolean {
    const value = this.optionalText(key)?.toLowerCase();
    if (value === undefined || value === "false") return false;
    if (value === "true") return true;
    throw this.error(key, `is "${value}"; expected "true" or "false"`);
  }

  /** Reads `<key>-data` (base64), which wins, or the file that `<key>` names. */
  pem(key: string, label: string): string | undefined {
    const data = this.optionalText(`${key}-data`);
    if (data !== undefined) {
      const decoded = decodePem(data.replace(/\s+/g, ""), label);
      if (decoded !== undefined) return decoded;
      throw this.error(`${key}-data`, `does not hold a ${label} in PEM, encoded as base64`);
    }
    const file = this.optionalText(key);
    if (file === undefined) return undefined;
    const path = resolvePath(this.path, file);
    const text = readText(this.path, path, `"${this.place}${key}"`);
    if (isPem(text, label)) return text;
    throw this.error(key, `names the file "${path}", which does not hold a ${label} in PEM`);
  }
}

/** The whole file. */
class KubeconfigFile extends KubeconfigSection {
  constructor(path: string, values: unknown) {
    if (!isRecord(values)) {
      throw new KubeconfigError(
        path,
        `it holds ${kindOf(values)}; expected a kubeconfig of kind "Config"`,
      );
    }
    super(path, "", values);
  }

  /** The section `key` of the list's entry of that name. */
  named(list: string, key: string, name: string): KubeconfigSection {
    const entries = this.value(list);
    if (!Array.isArray(entries)) {
      throw this.error(list, `is ${kindOf(entries)}; expected a list with an entry "${name}"`);
    }
    const index = entries.findIndex((entry) => isRecord(entry) && entry.name === name);
    if (index < 0) throw this.error(list, `has no entry with the name "${name}"`);
    const section: unknown = entries[index][key];
    if (!isRecord(section)) {
      throw this.error(
        `${list}[${index}].${key}`,
        `is ${kindOf(section)}; expected keys and values`,
      );
    }
    return new KubeconfigSection(this.path, `${list}[${index}].${key}.`, section);
  }
}

function valuesOf(text: string, path: string): unknown {
  try {
    // Without types: a token such as `1e5` stays the text that it is.
    return parseJsonOfTexts(text) ?? parse(text, { schema: "failsafe" });
  } catch (cause) {
    const reason = messageOf(cause).split("\n")[0];
    throw new KubeconfigError(path, `it is not YAML: ${reason}`, { cause });
  }
}

/**
 * Parses JSON behind a comment line, as the installer writes it: a YAML parser that has just been
 * loaded takes several milliseconds. What has other scalars than texts is left to that one.
 */
function parseJsonOfTexts(text: string): unknown {
  const json = text.replace(/^#[^\n]*\n/, "");
  if (!json.startsWith("{")) return undefined;
  let hasOthers = false;
  try {
    const values: unknown = JSON.parse(json, (_, value: unknown) => {
      if (typeof value === "number" || typeof value === "boolean") hasOthers = true;
      return value;
    });
    return hasOthers ? undefined : values;
  } catch {
    return undefined;
  }
}

function refuseUnsupported(user: KubeconfigSection): void {
  const remedies = 'use "token", "tokenFile" or a client certificate';
  for (const key of ["exec", "auth-provider"]) {
    if (user.value(key) !== undefined) {
      throw user.error(key, `is not supported, since it would run a program as root; ${remedies}`);
    }
  }
  for (const key of ["username", "password", "as", "as-uid", "as-groups"]) {
    if (user.value(key) !== undefined) throw user.error(key, `is not supported; ${remedies}`);
  }
}

function checkToken(token: string, error: (problem: string) => KubeconfigError): void {
  if (token === "") throw error("is empty; is the service account's token mounted?");
  if (!/^[!-~]+$/.test(token)) {
    throw error(
      "holds characters that no HTTP header can carry; expected one line of visible ASCII",
    );
  }
}

function checkUrl(
  section: KubeconfigSection,
  key: string,
  text: string,
  schemes: readonly string[],
): void {
  const url = URL.parse(text);
  if (url === null || !schemes.includes(url.protocol.slice(0, -1)) || url.host === "") {
    throw section.error(
      key,
      `is "${text}"; expected a URL that begins with ${
        schemes.map((s) => `"${s}://"`).join(" or ")
      }`,
    );
  }
  if (key === "server" && (url.username !== "" || url.search !== "" || url.hash !== "")) {
    throw section.error(
      key,
      "has a user, a query or a fragment; expected scheme, host, port and path",
    );
  }
}

/** Real ones have a few KiB; bundles of all public authorities have 200. */
export const largestKubeconfig = 1024 * 1024;

function readText(kubeconfig: string, path: string, what: string): string {
  try {
    return new TextDecoder().decode(readRegularFile(path, largestKubeconfig));
  } catch (cause) {
    const reason = cause instanceof LinuxError && cause.code === "ENOENT"
      ? "does not exist; is install-cni running on this node?"
      : `cannot be read: ${messageOf(cause)}`;
    throw new KubeconfigError(
      kubeconfig,
      path === kubeconfig ? `${what} ${reason}` : `${what} names "${path}", which ${reason}`,
      { cause },
    );
  }
}

function resolvePath(kubeconfig: string, path: string): string {
  return path.startsWith("/") ? path : kubeconfig.replace(/[^/]*$/, "") + path;
}

function decodePem(base64: string, label: string): string | undefined {
  try {
    const text = atob(base64);
    return isPem(text, label) ? text : undefined;
  } catch {
    return undefined;
  }
}

/** Labels of private keys differ (`EC PRIVATE KEY`, `RSA PRIVATE KEY`); the end is the same. */
function isPem(text: string, label: string): boolean {
  return new RegExp(`-----BEGIN (?:[A-Z]+ )?${label}-----[^]+?-----END (?:[A-Z]+ )?${label}-----`)
    .test(text);
}

function kindOf(value: unknown): string {
  if (value === undefined) return "missing";
  if (value === null) return "empty";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : "text";
}
