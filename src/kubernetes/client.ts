/** A small client of the Kubernetes API, with bounds on time and size, and clear errors. */
import { isRecord } from "../json/record.ts";
import { type Answer, endedBy, readWhole } from "./answer.ts";
import type { Change } from "./changes.ts";
import type { ConnectionState, Verb } from "./connection_state.ts";
import { ApiError } from "./errors.ts";
import { type ClusterAccess, readTokenFile } from "./kubeconfig.ts";
import { parsePod, type Pod } from "./pod.ts";
import type { Proxy } from "./proxy.ts";
import {
  certificateProblem,
  contentProblem,
  decodeUtf8,
  isNetworkError,
  reasonOf,
  retryAfter,
  statusObject,
} from "./response.ts";
import {
  createTransport,
  type Transport,
  type TransportOptions,
  type TransportRequest,
} from "./transport.ts";

/** Bounds of a client's requests. */
export interface ClientOptions extends TransportOptions {
  /** Longest time for one request from its start to the last byte, in milliseconds; 10 s. */
  readonly requestTimeoutMilliseconds?: number;
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
  /** Media type of the answer that is asked for; `application/json`. */
  readonly accept?: string;
  /** Longest acceptable answer in bytes; 4 MiB, more than twice what etcd stores in one object. */
  readonly maximumBytes?: number;
}

const jsonType = "application/json";

const defaultMaximumBytes = 4 * 1024 * 1024;

/** A client for one API server and one user; close it, or dispose of it, when done. */
export class KubernetesClient implements Disposable {
  readonly #access: ClusterAccess;
  /** Made by the first request; others that come meanwhile share it. */
  #transport: Promise<Transport> | undefined;
  #proxy: Proxy | undefined;
  readonly #timeout: number;
  readonly #transportOptions: TransportOptions;
  readonly #state: ConnectionState | undefined;

  /** Connects to nothing yet. */
  constructor(access: ClusterAccess, options: ClientOptions = {}) {
    this.#access = access;
    this.#timeout = options.requestTimeoutMilliseconds ?? 10_000;
    this.#transportOptions = options;
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
      throw this.#error(
        `get ${what} from`,
        `the answer is not what was asked for: ${reasonOf(cause)}`,
        {
          kind: "content",
          temporary: false,
          cause,
        },
      );
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
    const task = `get ${options.what ?? path} from`;
    const maximum = options.maximumBytes ?? defaultMaximumBytes;
    const accept = options.accept ?? jsonType;
    return await this.#bounded(task, options.verb ?? "get", options.signal, async (signal) => {
      const answer = await this.#request({ target: path, headers: { accept } }, task, signal);
      return await this.#readObject(answer, task, maximum);
    });
  }

  /**
   * Changes one object.
   *
   * @returns The object as the server then has it, or a Status object.
   * @throws as {@linkcode getJson}; of the kind `timeout` or `connection`, the change can have been
   * made or not.
   */
  async change(
    change: Change,
    options: { readonly what?: string; readonly signal?: AbortSignal } = {},
  ): Promise<Record<string, unknown>> {
    const { verb, path: target } = change;
    const task = `${verb} ${options.what ?? target} at`;
    // Imported here, since the plugin changes nothing and pays for each module that it loads.
    const { requestOf } = await import("./changes.ts");
    return await this.#bounded(task, verb, options.signal, async (signal) => {
      const answer = await this.#request({ target, ...requestOf(change) }, task, signal);
      return await this.#readObject(answer, task, defaultMaximumBytes);
    });
  }

  /**
   * Opens a stream of JSON lines, as a watch sends them. Only its beginning is bounded in time.
   *
   * @param path Path and query.
   * @param signal Ends the stream.
   * @param accept Media type that is asked for.
   * @throws as {@link getJson}.
   */
  async openStream(
    path: string,
    what: string,
    signal: AbortSignal,
    accept = jsonType,
  ): Promise<AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>> {
    const task = `get ${what} from`;
    const ended = new AbortController();
    const end = () => ended.abort(signal.reason);
    signal.throwIfAborted();
    signal.addEventListener("abort", end, { once: true });
    const answer = await this.#bounded(task, "watch", signal, async (bounded) => {
      const tooLate = () => ended.abort(bounded.reason);
      bounded.addEventListener("abort", tooLate, { once: true });
      try {
        return await this.#request({ target: path, headers: { accept } }, task, ended.signal);
      } finally {
        bounded.removeEventListener("abort", tooLate);
      }
    });
    return endedBy(ended.signal, answer, () => this.#state?.succeeded("watch"));
  }

  /** Turns what ended a stream into an {@link ApiError}. */
  streamError(what: string, cause: unknown): ApiError {
    const error = cause instanceof ApiError ? cause : this.#networkError(`get ${what} from`, cause);
    this.#state?.failed("watch", error);
    return error;
  }

  /** Closes the connections. */
  close(): void {
    this.#transport?.then((transport) => transport.close(), () => {});
    this.#transport = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Runs a request under the caller's signal and the time bound. */
  async #bounded<T>(
    task: string,
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
        ? this.#error(task, `no complete answer within ${this.#timeout} ms${this.#byWay()}`, {
          kind: "timeout",
          temporary: true,
        })
        // Local trouble, such as a missing token file, has a name of its own.
        : isNetworkError(error)
        ? this.#networkError(task, error)
        : error;
      this.#state?.failed(verb, failure);
      throw failure;
    } finally {
      clearTimeout(timer);
      outer?.removeEventListener("abort", abort);
    }
  }

  async #prepare(task: string): Promise<Transport> {
    const making = this.#transport ??= createTransport(this.#access, this.#transportOptions);
    try {
      const transport = await making;
      this.#proxy = transport.proxy;
      return transport;
    } catch (cause) {
      if (this.#transport === making) this.#transport = undefined;
      throw this.#error(task, `the way there cannot be prepared: ${reasonOf(cause)}`, {
        kind: "tls",
        certificateProblem: "unusable",
        temporary: false,
        cause,
      });
    }
  }

  async #request(
    request: TransportRequest,
    task: string,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { tokenFile, token: fixedToken } = this.#access;
    const token = tokenFile === undefined ? fixedToken : readTokenFile(tokenFile);
    const headers = {
      accept: jsonType,
      "accept-encoding": "identity",
      "user-agent": "kuma-cni",
      ...request.headers,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    };
    const transport = await this.#prepare(task);
    const answer = await transport.send({ ...request, headers }, signal);
    // A creation is answered with 201; 202 is a deletion that waits for a finalizer.
    const isChanged = request.method !== undefined &&
      (answer.status === 201 || answer.status === 202);
    if (answer.status !== 200 && !isChanged) throw await this.#statusError(answer, task);
    const problem = contentProblem(answer);
    if (problem === undefined) return answer;
    await answer.discard();
    throw this.#error(task, problem, { kind: "content", temporary: false });
  }

  async #readObject(
    answer: Answer,
    task: string,
    maximum: number,
  ): Promise<Record<string, unknown>> {
    const bytes = await readWhole(answer, maximum);
    if (bytes !== undefined) return this.#parseObject(bytes, task);
    throw this.#error(task, `the answer is longer than ${maximum} bytes`, {
      kind: "content",
      temporary: false,
    });
  }

  #parseObject(bytes: Uint8Array, task: string): Record<string, unknown> {
    let json: unknown;
    try {
      json = JSON.parse(decodeUtf8(bytes));
    } catch (cause) {
      throw this.#error(task, `the answer is not JSON: ${reasonOf(cause)}`, {
        kind: "content",
        temporary: false,
        cause,
      });
    }
    if (isRecord(json)) return json;
    throw this.#error(task, "the answer is JSON, but not an object", {
      kind: "content",
      temporary: false,
    });
  }

  async #statusError(answer: Answer, task: string): Promise<ApiError> {
    const { status, headers } = answer;
    const object = statusObject(await readWhole(answer, 64 * 1024));
    const message = typeof object.message === "string" ? object.message.slice(0, 500) : undefined;
    const reason = typeof object.reason === "string" ? object.reason : undefined;
    return this.#error(
      task,
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

  #networkError(task: string, cause: unknown): ApiError {
    const reason = reasonOf(cause);
    const problem = certificateProblem(reason);
    return this.#error(task, reason + this.#byWay(), {
      kind: problem === undefined ? "connection" : "tls",
      certificateProblem: problem,
      temporary: problem === undefined,
      cause,
    });
  }

  /** Names the proxy, which nobody thinks of who looks at the server's address. */
  #byWay(): string {
    return this.#proxy === undefined ? "" : `, by way of the ${this.#proxy.label}`;
  }

  #error(
    task: string,
    reason: string,
    facts: ConstructorParameters<typeof ApiError>[1],
  ): ApiError {
    return new ApiError(`Could not ${task} ${this.#access.server}: ${reason}`, facts);
  }
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
