/** A small client of the Kubernetes API: GET, with bounds on time and size, and clear errors. */
import type { ConnectionState, Verb } from "./connection_state.ts";
import { getDirectly } from "./direct.ts";
import { ApiError } from "./errors.ts";
import { type ClusterAccess, readTokenFile } from "./kubeconfig.ts";
import { parsePod, type Pod } from "./pod.ts";
import {
  type Answer,
  isNetworkError,
  isRecord,
  isTlsRefusal,
  readText,
  reasonOf,
  retryAfter,
  statusObject,
} from "./response.ts";
import { createTransport, type Transport } from "./transport.ts";

/** Bounds of a client's requests. */
export interface ClientOptions {
  /** Longest time for one request from its start to the last byte, in milliseconds; 10 s. */
  readonly requestTimeoutMilliseconds?: number;
  /** Most requests will be the only one: each gets a connection of its own, without `fetch`. */
  readonly direct?: boolean;
  /** Hears how each request ends. */
  readonly state?: ConnectionState;
}

/** Bounds of one request. */
export interface RequestOptions {
  /** Ends the request early. */
  readonly signal?: AbortSignal;
  /** What is asked for, as messages name it, for example `pod "demo/app-1"`. */
  readonly what?: string;
  /** What the request counts as in the {@linkcode ConnectionState}; `get`. */
  readonly verb?: Verb;
  /** Longest acceptable answer in bytes; 4 MiB, more than twice what etcd stores in one object. */
  readonly maximumBytes?: number;
}

const defaultMaximumBytes = 4 * 1024 * 1024;

/** A client for one API server and one user; close it, or dispose of it, when done. */
export class KubernetesClient implements Disposable {
  readonly #access: ClusterAccess;
  #transport: Transport | undefined;
  readonly #timeout: number;
  readonly #direct: boolean;
  readonly #state: ConnectionState | undefined;

  /** Connects to nothing yet. */
  constructor(access: ClusterAccess, options: ClientOptions = {}) {
    this.#access = access;
    this.#timeout = options.requestTimeoutMilliseconds ?? 10_000;
    this.#direct = options.direct ?? false;
    this.#state = options.state;
  }

  /** The API server's URL. */
  get server(): string {
    return this.#access.server;
  }

  /**
   * Gets one pod.
   *
   * @throws {ApiError} as {@link getJson}, and when what comes is not this pod.
   */
  async getPod(
    reference: { readonly namespace: string; readonly name: string },
    signal?: AbortSignal,
  ): Promise<Pod> {
    const { namespace, name } = reference;
    const what = `pod "${namespace}/${name}"`;
    const path = podPath(namespace, name);
    const json = await this.getJson(path, { what, ...(signal === undefined ? {} : { signal }) });
    try {
      if (!Object.hasOwn(json, "kind")) throw new TypeError('Not a pod: "kind" is missing');
      const pod = parsePod(json);
      if (pod.namespace === namespace && pod.name === name) return pod;
      throw new TypeError(`It is the pod "${pod.namespace}/${pod.name}"`);
    } catch (cause) {
      throw this.#error(what, `the answer is not what was asked for: ${reasonOf(cause)}`, {
        kind: "content",
        temporary: false,
        cause,
      });
    }
  }

  /**
   * Gets one JSON object.
   *
   * @param path Path and query.
   * @throws {ApiError} when certificates cannot be used, or there is no complete JSON object in time.
   * @throws The signal's reason when it has ended the request.
   * @throws {KubeconfigError} when the token's file cannot be read.
   */
  async getJson(path: string, options: RequestOptions = {}): Promise<Record<string, unknown>> {
    const what = options.what ?? path;
    const maximum = options.maximumBytes ?? defaultMaximumBytes;
    return await this.#bounded(what, options.verb ?? "get", options.signal, async (signal) => {
      const response = await this.#request(path, what, signal, this.#direct ? maximum : undefined);
      const text = await readText(response, maximum, { strict: true });
      if (text === undefined) {
        throw this.#error(what, `the answer is longer than ${maximum} bytes`, {
          kind: "content",
          temporary: false,
        });
      }
      return this.#parseObject(text, what);
    });
  }

  /**
   * Opens a stream of JSON lines, as a watch sends them. Only its beginning is bounded in time.
   *
   * @param path Path and query.
   * @param signal Ends the stream.
   * @throws as {@link getJson}.
   */
  async openStream(
    path: string,
    what: string,
    signal: AbortSignal,
  ): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const ended = new AbortController();
    const end = () => ended.abort(signal.reason);
    signal.throwIfAborted();
    signal.addEventListener("abort", end, { once: true });
    const response = await this.#bounded(what, "watch", signal, async (bounded) => {
      const tooLate = () => ended.abort(bounded.reason);
      bounded.addEventListener("abort", tooLate, { once: true });
      try {
        return await this.#request(path, what, ended.signal);
      } finally {
        bounded.removeEventListener("abort", tooLate);
      }
    });
    const body = "whole" in response ? null : response.body;
    const stream = body ?? ReadableStream.from<Uint8Array<ArrayBuffer>>([]);
    return endedBy(ended.signal, stream, () => this.#state?.succeeded("watch"));
  }

  /** Turns what ended a stream into an {@link ApiError}. */
  streamError(what: string, cause: unknown): ApiError {
    const error = cause instanceof ApiError ? cause : this.#networkError(what, cause);
    this.#state?.failed("watch", error);
    return error;
  }

  /** Closes the connections. */
  close(): void {
    this.#transport?.close();
    this.#transport = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Runs a request under the caller's signal and the time bound. */
  async #bounded<T>(
    what: string,
    verb: Verb,
    outer: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    outer?.throwIfAborted();
    const controller = new AbortController();
    const abort = () => controller.abort(outer?.reason);
    outer?.addEventListener("abort", abort, { once: true });
    const timer = setTimeout(() => controller.abort(), this.#timeout);
    const ended = Promise.withResolvers<never>();
    controller.signal.addEventListener("abort", () => ended.reject(controller.signal.reason));
    try {
      const working = work(controller.signal);
      // The race may leave the request behind; its failure then is nobody's business.
      working.catch(() => {});
      // Garbage collection can make fetch deaf to its signal (Deno 2.6), which must hold up nobody.
      const result = await Promise.race([working, ended.promise]);
      this.#state?.succeeded(verb);
      return result;
    } catch (error) {
      outer?.throwIfAborted();
      const failure = controller.signal.aborted
        ? this.#error(what, `no complete answer within ${this.#timeout} ms`, {
          kind: "timeout",
          temporary: true,
        })
        // Local trouble, such as a missing token file, has a name of its own.
        : isNetworkError(error)
        ? this.#networkError(what, error)
        : error;
      this.#state?.failed(verb, failure);
      throw failure;
    } finally {
      clearTimeout(timer);
      outer?.removeEventListener("abort", abort);
    }
  }

  async #prepare(what: string): Promise<Transport> {
    try {
      return await createTransport(this.#access);
    } catch (cause) {
      throw this.#error(what, `the kubeconfig's certificates are of no use: ${reasonOf(cause)}`, {
        kind: "tls",
        temporary: false,
        cause,
      });
    }
  }

  /** @param maximum Longest body that is of interest, if a connection of its own may be used. */
  async #request(
    path: string,
    what: string,
    signal: AbortSignal,
    maximum?: number,
  ): Promise<Answer> {
    const { tokenFile, token: fixedToken } = this.#access;
    const token = tokenFile === undefined ? fixedToken : readTokenFile(tokenFile);
    const url = this.#access.server + path;
    const headers = {
      accept: "application/json",
      "accept-encoding": "identity",
      "user-agent": "kuma-cni",
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    };
    let response: Answer | undefined = maximum === undefined
      ? undefined
      : await getDirectly(this.#access, url, headers, maximum, signal);
    if (response === undefined) {
      const transport = this.#transport ??= await this.#prepare(what);
      response = await transport.get(url, headers, signal);
    }
    if (response.status !== 200) throw await this.#statusError(response, what);
    const type = response.headers.get("content-type") ?? "";
    if (/^application\/json\b/i.test(type)) return response;
    if (!("whole" in response)) await response.body?.cancel();
    throw this.#error(
      what,
      `the answer is ${
        type === "" ? "of no type" : `"${type.slice(0, 80)}"`
      }, wanted "application/json"; is that address an API server, or a proxy in front of it?`,
      { kind: "content", temporary: false },
    );
  }

  #parseObject(text: string, what: string): Record<string, unknown> {
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (cause) {
      throw this.#error(what, `the answer is not JSON: ${reasonOf(cause)}`, {
        kind: "content",
        temporary: false,
        cause,
      });
    }
    if (isRecord(json)) return json;
    throw this.#error(what, "the answer is JSON, but not an object", {
      kind: "content",
      temporary: false,
    });
  }

  async #statusError(response: Answer, what: string): Promise<ApiError> {
    const { status, headers } = response;
    const text = await readText(response, 64 * 1024);
    const object = statusObject(text);
    const message = typeof object.message === "string" ? object.message.slice(0, 500) : undefined;
    const reason = typeof object.reason === "string" ? object.reason : undefined;
    return this.#error(
      what,
      `the server answered ${status}${message === undefined ? "" : `: ${message}`}`,
      {
        kind: "status",
        status,
        reason,
        retryAfterMilliseconds: retryAfter(headers, object),
        temporary: status >= 500 || status === 408 || status === 429,
      },
    );
  }

  #networkError(what: string, cause: unknown): ApiError {
    const reason = reasonOf(cause);
    const tls = isTlsRefusal(reason);
    return this.#error(what, reason, {
      kind: tls ? "tls" : "connection",
      temporary: !tls,
      cause,
    });
  }

  #error(
    what: string,
    reason: string,
    facts: ConstructorParameters<typeof ApiError>[1],
  ): ApiError {
    return new ApiError(`Could not get ${what} from ${this.#access.server}: ${reason}`, facts);
  }
}

/**
 * Makes a signal end a body. `fetch` would do so by itself, but when the garbage collector has taken
 * the request (Deno 2.6) it no longer does, and an agent that is to stop hung on its watch.
 *
 * @param onPart Called for each part that comes.
 */
function endedBy(
  signal: AbortSignal,
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  onPart: () => void,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = body.getReader();
  let end: () => void;
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(controller) {
      end = () => {
        controller.error(signal.reason);
        reader.cancel(signal.reason).catch(() => {});
      };
      signal.addEventListener("abort", end, { once: true });
    },
    async pull(controller) {
      const { done, value } = await reader.read();
      if (signal.aborted) return;
      if (!done) {
        onPart();
        return controller.enqueue(value);
      }
      signal.removeEventListener("abort", end);
      controller.close();
    },
    async cancel(reason) {
      signal.removeEventListener("abort", end);
      await reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
}

/**
 * The path of a pod. Names are checked, since `..` would lead to another place.
 *
 * @throws {ApiError} when a name is none that Kubernetes gives.
 */
function podPath(namespace: string, name: string): string {
  if (!/^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/.test(namespace)) {
    throw new ApiError(`Not a namespace's name: ${JSON.stringify(namespace)}`, {
      kind: "content",
      temporary: false,
    });
  }
  if (name.length > 253 || !/^[a-z0-9](?:[-.a-z0-9]*[a-z0-9])?$/.test(name)) {
    throw new ApiError(`Not a pod's name: ${JSON.stringify(name)}`, {
      kind: "content",
      temporary: false,
    });
  }
  return `/api/v1/namespaces/${namespace}/pods/${name}`;
}
