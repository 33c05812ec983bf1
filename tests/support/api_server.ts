/**
 * A stand-in for the Kubernetes API server: real TLS with an authority and a leaf, bearer tokens,
 * the real JSON shapes for get, list and watch, and faults on demand. It runs on the event loop of
 * its creator, so a child process that talks to it must not be waited for synchronously.
 */
import { formatKubeconfig } from "../../src/kubernetes/kubeconfig_format.ts";
import { withNetworkNamespace } from "../../src/linux/network_namespace.ts";
import { apiKinds } from "./api_kinds.ts";
import { ApiFailure, ApiStore, failure, type ListQuery, type WatchEvent } from "./api_store.ts";
import { type Authority, makeAuthority } from "./certificates.ts";
import { type Exchange, type HttpRequest, HttpServer } from "./http_server.ts";
import type { KubernetesObject } from "./pods.ts";

/** Choices of a stand-in. */
export interface ApiServerOptions {
  /** Address to listen on; `127.0.0.1` unless told. The certificate is for it, 127.0.0.1 and ::1. */
  readonly hostname?: string;
  /** Port to listen on; any free one unless told. */
  readonly port?: number;
  /** Objects that exist from the beginning. */
  readonly objects?: readonly KubernetesObject[];
  /** The bearer token that is accepted; random unless told. */
  readonly token?: string;
  /** Signs the server's certificate; a new one unless told. */
  readonly authority?: Authority;
  /** Path of the network namespace to listen in; the process's own unless told. */
  readonly networkNamespace?: string;
}

/** What the server does instead of, or before, the right answer. */
export type Fault =
  /** Takes the request and never answers. */
  | { readonly kind: "hang" }
  /** Closes the connection without an answer. */
  | { readonly kind: "close" }
  /** Closes the connection after that many bytes of the body. */
  | { readonly kind: "cut"; readonly afterBytes: number }
  /** Answers rightly, but that many milliseconds later. */
  | { readonly kind: "delay"; readonly milliseconds: number }
  /** Answers rightly, in pieces of `bytes` every `milliseconds`. */
  | { readonly kind: "trickle"; readonly bytes: number; readonly milliseconds: number }
  /** Sends the first text, then the other one again and again for as long as the client is there. */
  | { readonly kind: "endless"; readonly first: string; readonly then: string }
  /** Answers with a Status object of that code. */
  | {
    readonly kind: "status";
    readonly code: number;
    readonly reason?: string;
    readonly message?: string;
    readonly retryAfterSeconds?: number;
  }
  /** Answers with exactly this. */
  | {
    readonly kind: "body";
    readonly status?: number;
    readonly contentType?: string;
    /** Further header fields. */
    readonly headers?: Readonly<Record<string, string>>;
    readonly body: string | Uint8Array<ArrayBuffer>;
  };

/** What a proxy or a captive portal between client and server would say. */
export const htmlFault: Fault = {
  kind: "body",
  status: 200,
  contentType: "text/html; charset=utf-8",
  body: "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>",
};

/** Where and how often a fault happens. */
export interface FaultScope {
  /** Number of requests that meet the fault; all unless told. */
  readonly times?: number;
  /** Only requests of this verb. */
  readonly verb?: "get" | "list" | "watch" | "create" | "patch" | "delete";
  /** Only requests whose path has this part. */
  readonly path?: string;
}

/** One request that arrived, in order. */
export interface RequestRecord {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly verb: string;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly headers: Headers;
  readonly body: string;
}

interface ActiveFault {
  readonly fault: Fault;
  readonly scope: FaultScope;
  left: number;
}

interface Watcher {
  readonly resource: string;
  readonly bookmarks: boolean;
  /** Queues an event behind those that are on their way. */
  readonly send: (event: WatchEvent) => void;
}

/** A running stand-in; dispose of it to stop it. */
export class ApiServer implements AsyncDisposable {
  /** Everything the API serves; change it here and the watchers hear of it. */
  readonly store: ApiStore;
  /** Certificate authority of the server's certificate, PEM. */
  readonly certificateAuthority: string;
  /** Requests so far, for assertions; may be emptied. */
  readonly requests: RequestRecord[] = [];
  #http: HttpServer;
  #token: string;
  #faults: ActiveFault[] = [];
  #forbidden = new Set<string>();
  #watchers = new Set<Watcher>();

  private constructor(
    options: ApiServerOptions,
    certificateAuthority: string,
    identity: { certificate: string; key: string },
  ) {
    this.store = new ApiStore(options.objects ?? []);
    this.certificateAuthority = certificateAuthority;
    this.#token = options.token ?? newToken();
    this.#http = new HttpServer(
      (request, exchange) => this.#handle(request, exchange),
      identity,
      options.hostname ?? "127.0.0.1",
      options.port ?? 0,
    );
  }

  /** Makes the certificates and starts to listen. */
  static async start(options: ApiServerOptions = {}): Promise<ApiServer> {
    const authority = options.authority ?? await makeAuthority();
    const identity = await authority.issue({
      commonName: "kube-apiserver",
      ips: [...new Set([options.hostname ?? "127.0.0.1", "127.0.0.1", "::1"])],
      dnsNames: ["localhost", "kubernetes", "kubernetes.default.svc"],
    });
    const listen = () => new ApiServer(options, authority.certificate, identity);
    // A socket stays in the namespace that it was made in, wherever it is used from.
    return options.networkNamespace === undefined
      ? listen()
      : withNetworkNamespace(options.networkNamespace, listen);
  }

  /** The TCP port. */
  get port(): number {
    return this.#http.port;
  }

  /** The server's address as a kubeconfig spells it. */
  get url(): string {
    const host = this.#http.hostname;
    return `https://${host.includes(":") ? `[${host}]` : host}:${this.port}`;
  }

  /** The bearer token that is accepted now. */
  get token(): string {
    return this.#token;
  }

  /** How many connections are open now. */
  get connections(): number {
    return this.#http.connections;
  }

  /** How many watches run now. */
  get watches(): number {
    return this.#watchers.size;
  }

  /** A kubeconfig for this server, in the installer's form. */
  kubeconfig(overrides: { token?: string; certificateAuthority?: string } = {}): string {
    return formatKubeconfig({
      server: this.url,
      certificateAuthority: overrides.certificateAuthority ?? this.certificateAuthority,
      token: overrides.token ?? this.token,
    });
  }

  /** Writes the kubeconfig to a file of mode 0600. */
  async writeKubeconfig(path: string, overrides: { token?: string } = {}): Promise<void> {
    await Deno.writeTextFile(path, this.kubeconfig(overrides), { mode: 0o600 });
  }

  /** Replaces the accepted token by a new one, which it returns; the old one is refused with 401. */
  rotateToken(token = newToken()): string {
    return this.#token = token;
  }

  /** Takes away a right, for example `forbid("get", "pods")`; requests for it are answered 403. */
  forbid(verb: string, resource: string): void {
    this.#forbidden.add(`${verb} ${resource}`);
  }

  /** Gives a right back. */
  allow(verb: string, resource: string): void {
    this.#forbidden.delete(`${verb} ${resource}`);
  }

  /** Adds a fault; of several that fit a request the oldest counts. */
  inject(fault: Fault, scope: FaultScope = {}): void {
    this.#faults.push({ fault, scope, left: scope.times ?? Infinity });
  }

  /** Removes all faults. */
  clearFaults(): void {
    this.#faults = [];
  }

  /** Tells the watchers that asked for bookmarks how far they have come. */
  bookmark(): void {
    for (const watcher of this.#watchers) {
      if (watcher.bookmarks) watcher.send(this.store.bookmark(watcher.resource));
    }
  }

  /** Cuts every connection, as a restarting API server does. */
  closeConnections(): void {
    this.#http.closeConnections();
  }

  /** Stops listening and cuts every connection. */
  async close(): Promise<void> {
    await this.#http.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #handle(request: HttpRequest, exchange: Exchange): Promise<void> {
    const call = parseCall(request);
    const verb = call === undefined ? request.method.toLowerCase() : call.verb;
    this.requests.push({
      method: request.method,
      target: request.url.pathname + request.url.search,
      verb,
      time: Date.now(),
      headers: request.headers,
      body: request.body,
    });
    const fault = this.#takeFault(verb, request.url.pathname);
    if (fault?.kind === "hang") return;
    if (fault?.kind === "close") return exchange.close();
    if (fault?.kind === "delay") await sleep(fault.milliseconds, exchange.gone);
    if (fault?.kind === "body") {
      const type = fault.contentType ?? "application/json";
      const headers = { "content-type": type, ...fault.headers };
      return await exchange.respond(fault.status ?? 200, headers, fault.body);
    }
    if (fault?.kind === "endless") {
      await exchange.write(fault.first);
      const block = fault.then.repeat(Math.ceil(65_536 / fault.then.length));
      while (!exchange.gone.aborted) await exchange.write(block);
      return;
    }
    if (fault?.kind === "status") {
      const status = new ApiFailure(
        fault.code,
        fault.reason ?? "",
        fault.message ?? `the server answered ${fault.code} because a test told it to`,
        fault.retryAfterSeconds === undefined
          ? undefined
          : { retryAfterSeconds: fault.retryAfterSeconds },
      );
      return await respondFailure(exchange, status, fault.retryAfterSeconds);
    }
    try {
      await this.#answer(request, call, exchange, fault);
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error;
      await respondFailure(exchange, error);
    }
  }

  async #answer(
    request: HttpRequest,
    call: Call | undefined,
    exchange: Exchange,
    fault: Fault | undefined,
  ): Promise<void> {
    const user = this.#authenticate(request);
    if (/^\/(livez|readyz|healthz)$/.test(request.url.pathname)) {
      return await exchange.respond(200, { "content-type": "text/plain; charset=utf-8" }, "ok");
    }
    if (request.url.pathname === "/version") {
      return await respondJson(exchange, { major: "1", minor: "31", gitVersion: "v1.31.4" }, fault);
    }
    if (call === undefined) throw failure.unknownPath();
    if (call.verb === "other") throw failure.methodNotAllowed();
    const { resource, namespace, name, subresource } = call;
    // Nobody has the right to a part of an object.
    const hasRight = subresource === undefined && !this.#forbidden.has(`${call.verb} ${resource}`);
    if (user === anonymous || !hasRight) {
      throw failure.forbidden(user, call.verb, resource, namespace, name, subresource);
    }
    if (call.verb === "create" && resource === "selfsubjectaccessreviews") {
      const review = JSON.parse(request.body);
      const { verb, resource: asked } = review.spec.resourceAttributes;
      const allowed = !this.#forbidden.has(`${verb} ${asked}`);
      return await respondJson(exchange, { ...review, status: { allowed } }, fault, 201);
    }
    if (!Object.hasOwn(apiKinds, resource) || !this.store.serves(resource)) {
      throw failure.unknownPath();
    }
    const changed = this.#change(request, call);
    if (changed !== undefined) {
      const status = call.verb === "create" ? 201 : 200;
      return await respondJson(exchange, changed, fault, status);
    }
    if (name !== undefined) {
      return await respondJson(exchange, this.store.get(resource, namespace, name), fault);
    }
    const parameters = request.url.searchParams;
    const query: ListQuery = { resource, namespace, parameters };
    const isMetadata = /;as=PartialObjectMetadata/.test(request.headers.get("accept") ?? "");
    if (call.verb === "list") {
      const list = this.store.list(query);
      return await respondJson(exchange, isMetadata ? metadataList(list) : list, fault);
    }
    await this.#watch(query, exchange, isMetadata);
  }

  /** Does what a request for a change asks for; `undefined` when it asks for none. */
  #change(request: HttpRequest, call: Call): unknown {
    const { resource, namespace, name } = call;
    switch (call.verb) {
      case "create":
        return this.store.create(resource, namespace, JSON.parse(request.body));
      case "patch": {
        const type = request.headers.get("content-type") ?? "";
        if (type !== jsonPatchType) throw failure.badMediaType(jsonPatchType);
        return this.store.patch(resource, namespace, name!, JSON.parse(request.body));
      }
      case "delete": {
        const { preconditions } = request.body === "" ? {} : JSON.parse(request.body);
        return this.store.deleteIf(resource, namespace, name!, preconditions ?? {});
      }
    }
    return undefined;
  }

  #authenticate(request: HttpRequest): string {
    const header = request.headers.get("authorization");
    if (header === null) return anonymous;
    if (header !== `Bearer ${this.#token}`) throw failure.unauthorized();
    return "system:serviceaccount:kuma-system:kuma-cni";
  }

  /** Streams what happens from the given version on, in order, until somebody ends it. */
  async #watch(query: ListQuery, exchange: Exchange, isMetadata: boolean): Promise<void> {
    const { parameters } = query;
    const queue: WatchEvent[] = [];
    let wake = () => {};
    const send = (event: WatchEvent) => {
      queue.push(event);
      wake();
    };
    const stop = this.store.watch(query, send);
    const { resource } = query;
    const watcher = { resource, send, bookmarks: parameters.get("allowWatchBookmarks") === "true" };
    const seconds = Number(parameters.get("timeoutSeconds") ?? "1800");
    const timedOut = AbortSignal.timeout(seconds * 1000);
    const ended = AbortSignal.any([timedOut, exchange.gone]);
    ended.addEventListener("abort", () => wake());
    try {
      await exchange.startChunked(200, jsonHeaders);
      this.#watchers.add(watcher);
      while (!ended.aborted) {
        const event = queue.shift();
        if (event === undefined) {
          const woken = Promise.withResolvers<void>();
          wake = woken.resolve;
          if (!ended.aborted) await woken.promise;
          continue;
        }
        await sendEvent(exchange, isMetadata ? metadataEvent(event) : event);
        if (event.type === "ERROR") break;
      }
      await exchange.chunk("");
    } finally {
      stop();
      this.#watchers.delete(watcher);
    }
  }

  #takeFault(verb: string, path: string): Fault | undefined {
    const found = this.#faults.find(({ scope, left }) =>
      left > 0 && (scope.verb === undefined || scope.verb === verb) &&
      (scope.path === undefined || path.includes(scope.path))
    );
    if (found !== undefined) found.left--;
    return found?.fault;
  }
}

const anonymous = "system:anonymous";

const jsonPatchType = "application/json-patch+json";

const jsonHeaders = {
  "content-type": "application/json",
  "cache-control": "no-cache, private",
} as const;

/** What a path asks for. */
interface Call {
  readonly verb: "get" | "list" | "watch" | "create" | "patch" | "delete" | "other";
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

function parseCall({ url, method }: HttpRequest): Call | undefined {
  // As the real server does, before it looks at slashes: an encoded one separates as well.
  const path = decodeURIComponent(url.pathname);
  const found = new RegExp(
    "^/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/([^/]+)(?=/))?/([a-z-]+)(?:/([^/]+)(?:/([^/]+))?)?$",
  ).exec(path);
  if (found === null) return undefined;
  const [, namespace, resource = "", name, subresource] = found;
  const watch = url.searchParams.get("watch");
  const isObject = name !== undefined;
  const verb = method === "POST" && !isObject
    ? "create"
    : method === "PATCH" && isObject
    ? "patch"
    : method === "DELETE" && isObject
    ? "delete"
    : method !== "GET"
    ? "other"
    : isObject
    ? "get"
    : watch === "1" || watch === "true"
    ? "watch"
    : "list";
  return { verb, resource, namespace, name, subresource };
}

/** A list's objects without all but their metadata. */
function metadataList(list: KubernetesObject): KubernetesObject {
  const items = (list.items as KubernetesObject[]).map(({ metadata }) => ({ metadata }));
  return {
    ...list,
    kind: "PartialObjectMetadataList",
    apiVersion: "meta.k8s.io/v1",
    items,
  };
}

function metadataEvent({ type, object }: WatchEvent): WatchEvent {
  if (type === "ERROR") return { type, object };
  const { metadata } = object;
  return {
    type,
    object: { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata },
  };
}

async function respondJson(
  exchange: Exchange,
  value: unknown,
  fault?: Fault,
  status = 200,
): Promise<void> {
  const body = new TextEncoder().encode(JSON.stringify(value) + "\n");
  if (fault?.kind !== "cut" && fault?.kind !== "trickle") {
    return await exchange.respond(status, jsonHeaders, body);
  }
  const head = Object.entries(jsonHeaders).map(([name, text]) => `${name}: ${text}\r\n`).join("");
  await exchange.write(`HTTP/1.1 200 OK\r\n${head}content-length: ${body.length}\r\n\r\n`);
  if (fault.kind === "cut") {
    await exchange.write(body.subarray(0, fault.afterBytes));
    return exchange.close();
  }
  for (let at = 0; at < body.length && !exchange.gone.aborted; at += fault.bytes) {
    await exchange.write(body.subarray(at, at + fault.bytes));
    await sleep(fault.milliseconds, exchange.gone);
  }
}

async function respondFailure(
  exchange: Exchange,
  error: ApiFailure,
  retryAfterSeconds?: number,
): Promise<void> {
  await exchange.respond(error.code, {
    ...jsonHeaders,
    ...(retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) }),
  }, JSON.stringify(error.status()) + "\n");
}

async function sendEvent(exchange: Exchange, event: WatchEvent): Promise<void> {
  await exchange.chunk(JSON.stringify(event) + "\n");
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    resolve();
  }, { once: true });
  return promise;
}

/** A token in the three-part form of a service account's. */
function newToken(): string {
  const random = (bytes: number) =>
    crypto.getRandomValues(new Uint8Array(bytes)).toBase64({
      alphabet: "base64url",
      omitPadding: true,
    });
  return `eyJhbGciOiJSUzI1NiIsImtpZCI6InRlc3QifQ.${random(300)}.${random(256)}`;
}
