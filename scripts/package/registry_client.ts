/** Requests to a registry: who may, how often to try, and what its errors say. */
import { isRecord } from "../../src/json/record.ts";
import { certificateHint } from "../denort.ts";
import type { Credentials } from "./registry_credentials.ts";

/** A registry did not do what it was asked; the message tells what and why. */
export class RegistryError extends Error {
  override readonly name = "RegistryError";
  /** @param status HTTP status; undefined when there was no answer. */
  constructor(message: string, readonly status?: number) {
    super(message);
  }
}

/** Choices of a {@linkcode RegistryClient}. */
export interface RegistryOptions {
  /** Host and port as in an image's name. */
  readonly registry: string;
  readonly repository: string;
  readonly credentials?: Credentials;
  /** HTTP without TLS; by default only on this machine. */
  readonly plain?: boolean;
  /** Milliseconds before the second attempt; each further wait is twice as long. */
  readonly pause?: number;
}

/** A request; its body must be such that it can be sent again. */
export interface RegistryRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH";
  /** Path below `/v2/<repository>/`, or an absolute URL that the registry has given. */
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array<ArrayBuffer>;
  /** Statuses that are an answer, not an error. */
  readonly expected: readonly number[];
  /** What is done, for messages. */
  readonly what: string;
  /** Whether it may be sent again after it has failed; yes unless told. */
  readonly repeatable?: boolean;
}

const attempts = 5;
/** Longest time for one request: 40 MB over a slow line. */
const requestLimit = 15 * 60_000;
const longestPause = 60_000;
const hosts: Readonly<Record<string, string>> = { "docker.io": "registry-1.docker.io" };

/** Sends requests about one repository of one registry. */
export class RegistryClient {
  readonly #base: URL;
  #authorization: string | undefined;

  constructor(private readonly options: RegistryOptions) {
    const { registry, repository, plain = isLoopback(registry) } = options;
    const scheme = plain ? "http" : "https";
    this.#base = new URL(`${scheme}://${hosts[registry] ?? registry}/v2/${repository}/`);
  }

  /**
   * Sends a request, again when the registry is busy or away, and with credentials when it asks.
   *
   * @returns The answer; its body must be read or cancelled.
   * @throws {RegistryError} when the answer is none of the expected ones.
   */
  async send(request: RegistryRequest): Promise<Response> {
    for (let attempt = 1;; attempt++) {
      const last = attempt === attempts || request.repeatable === false;
      let response: Response;
      try {
        response = await this.#authorized(request);
      } catch (error) {
        if (error instanceof RegistryError) throw error;
        const reason = reasonOf(error);
        const hint = certificateHint(reason);
        // A certificate that is not trusted will not be so in a second.
        if (last || hint !== "") {
          throw new RegistryError(`${this.#attempted(request)}: ${reason}${hint}`);
        }
        await this.wait(attempt);
        continue;
      }
      if (request.expected.includes(response.status)) return response;
      const problem = await this.#problem(request, response);
      if (last || !isPassing(response.status)) throw problem;
      await this.wait(attempt, response.headers.get("retry-after"));
    }
  }

  /** Resolves a URL that the registry has given, which may be relative. */
  resolve(location: string): URL {
    return new URL(location, this.#base);
  }

  async #authorized(request: RegistryRequest): Promise<Response> {
    const response = await this.#fetch(request);
    if (response.status !== 401) return response;
    const challenge = response.headers.get("www-authenticate") ?? "";
    // A token may have run out during the upload, so each 401 is answered once.
    await response.body?.cancel();
    this.#authorization = await this.#answer(challenge, request);
    return await this.#fetch(request);
  }

  async #fetch({ method, url, headers = {}, body }: RegistryRequest): Promise<Response> {
    const target = this.resolve(url);
    // A registry may have uploads go to a store of somebody else, whom the credentials do not concern.
    const own = target.origin === this.#base.origin;
    return await fetch(target, {
      method,
      headers: {
        ...headers,
        ...(own && this.#authorization !== undefined ? { authorization: this.#authorization } : {}),
      },
      ...(body === undefined ? {} : { body }),
      signal: AbortSignal.timeout(requestLimit),
    });
  }

  /** Value of the header that a challenge asks for (RFC 7235; distribution's token authentication). */
  async #answer(challenge: string, request: RegistryRequest): Promise<string> {
    const { credentials, registry } = this.options;
    const [, scheme = "", rest = ""] = /^\s*(\S+)\s*(.*)$/s.exec(challenge) ?? [];
    const parameters = new Map(
      Array.from(rest.matchAll(/([a-z_]+)="([^"]*)"/gi), ([, name, value]) => [
        name!.toLowerCase(),
        value!,
      ]),
    );
    if (/^basic$/i.test(scheme)) {
      if (credentials?.kind !== "password") {
        throw new RegistryError(
          `${this.#attempted(request)}: it wants user and password; log in by "docker login ` +
            `${registry}", or the like of podman`,
          401,
        );
      }
      return basic(credentials);
    }
    const realm = parameters.get("realm");
    if (!/^bearer$/i.test(scheme) || realm === undefined) {
      throw new RegistryError(
        `${this.#attempted(request)}: it asks for credentials in an unknown way, ` +
          `"${challenge}"; known are Basic and Bearer`,
        401,
      );
    }
    return `Bearer ${await this.#fetchToken(new URL(realm), parameters)}`;
  }

  async #fetchToken(realm: URL, parameters: ReadonlyMap<string, string>): Promise<string> {
    const { credentials, registry, repository } = this.options;
    if (this.#base.protocol === "https:" && realm.protocol !== "https:") {
      throw new RegistryError(
        `Registry "${registry}" wants credentials to be sent to "${realm.origin}" without TLS`,
      );
    }
    const query = new URLSearchParams();
    const service = parameters.get("service");
    if (service !== undefined) query.set("service", service);
    query.set("scope", parameters.get("scope") || `repository:${repository}:pull,push`);
    const refresh = credentials?.kind === "refresh";
    if (refresh) {
      query.set("grant_type", "refresh_token");
      query.set("client_id", "kuma-cni");
      query.set("refresh_token", credentials.token);
    } else {
      query.forEach((value, name) => realm.searchParams.set(name, value));
    }
    const response = await fetch(realm, {
      ...(refresh ? { method: "POST", body: query } : {}),
      headers: credentials?.kind === "password" ? { authorization: basic(credentials) } : {},
      signal: AbortSignal.timeout(60_000),
    });
    const text = await response.text();
    // Busy servers are asked again, as for any other request.
    if (isPassing(response.status)) throw new Error(`token server answered ${response.status}`);
    const answer = response.ok ? parseObject(text) : {};
    const token = answer.token ?? answer.access_token;
    if (typeof token === "string") return token;
    const login = credentials === undefined
      ? `; there are no credentials for it: log in by "docker login ${registry}"`
      : "";
    throw new RegistryError(
      `Registry "${registry}" gives no token for repository "${repository}": "${realm.origin}" ` +
        `answered ${response.status}${login}`,
      response.status,
    );
  }

  async #problem(request: RegistryRequest, response: Response): Promise<RegistryError> {
    const text = await response.text().catch(() => "");
    const said = errorsIn(text);
    const hint = response.status === 413
      ? "; a proxy limits the size of requests: push with --chunk-size"
      : "";
    return new RegistryError(
      `${this.#attempted(request)}: it answered ${response.status}` +
        `${said === "" ? "" : ` (${said})`}${hint}`,
      response.status,
    );
  }

  #attempted({ what }: RegistryRequest): string {
    return `Cannot ${what} at registry "${this.options.registry}"`;
  }

  /** Waits before the next attempt, longer each time and as long as the registry says. */
  async wait(attempt: number, retryAfter: string | null = null): Promise<void> {
    const { pause = 1000 } = this.options;
    const told = retryAfter !== null && /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : 0;
    const wait = Math.max(told, pause * 2 ** (attempt - 1));
    await new Promise((resolve) => setTimeout(resolve, Math.min(wait, longestPause)));
  }
}

/** Whether asking again may help. */
function isPassing(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

function isLoopback(registry: string): boolean {
  const { hostname } = new URL(`http://${registry}`);
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname);
}

function basic({ user, password }: Credentials & { kind: "password" }): string {
  const bytes = new TextEncoder().encode(`${user}:${password}`);
  return `Basic ${bytes.toBase64()}`;
}

function errorsIn(text: string): string {
  const { errors } = parseObject(text);
  if (!Array.isArray(errors)) return "";
  return errors.slice(0, 3).map((error) => {
    const { code, message } = error as Record<string, unknown>;
    return [code, message].filter((part) => typeof part === "string").join(": ");
  }).join("; ").slice(0, 500);
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : {};
  } catch {
    return {};
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
