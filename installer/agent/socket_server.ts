/**
 * The agent's end of the Unix socket: takes over the log records of plugin calls, so that they show
 * in `kubectl logs`, and answers which pod a call is about.
 */
import { LineStream } from "../../src/agent/lines.ts";
import {
  type AgentResponse,
  parseRequest,
  type PodRequest,
  type ReceivedFinish,
} from "../../src/agent/messages.ts";
import type { Pod } from "../../src/kubernetes/pod.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { OverloadError, SocketBudget, Turns } from "./socket_budget.ts";
import { SocketPlace } from "./socket_place.ts";

/** Where the server gets pods from. */
export interface PodProvider {
  /** The pod, if it is known already and no question remains about it. */
  cached(request: PodRequest): Pod | undefined;
  /** Asks the API server, with all patience that one call may have. */
  fetch(request: PodRequest, signal: AbortSignal): Promise<Pod>;
}

/** What the server tells its owner. */
export interface SocketObserver {
  /** A plugin call has ended; its records and outcome are here. */
  finished(request: ReceivedFinish): void;
  /** A pod was asked for; `source` says who answered. */
  podAnswered(source: "cache" | "api" | "error"): void;
  /** A connection was dropped, or the socket could not be served. */
  failed(cause: "protocol" | "timeout" | "overload" | "accept" | "write", error: unknown): void;
}

/** Bounds of the server. */
export interface SocketLimits {
  /** Connections at once; further ones are closed unanswered, and the plugin helps itself. */
  readonly connections: number;
  /** Bytes of unfinished lines of all connections together. */
  readonly bytes: number;
  /** Questions to the API server at once; further ones wait. */
  readonly questions: number;
  /** Milliseconds that a connection may take for its next word, or for reading one of ours. */
  readonly idleMilliseconds: number;
  /** Milliseconds for one question to the API server. */
  readonly fetchMilliseconds: number;
}

const DEFAULT_LIMITS: SocketLimits = {
  connections: 256,
  // One line of the longest kind, and thousands of the usual one.
  bytes: 8 * 1024 * 1024,
  questions: 16,
  idleMilliseconds: 60_000,
  fetchMilliseconds: 10_000,
};

/** Serves the agent's socket until closed. */
export class SocketServer {
  readonly #connections = new Set<Deno.Conn>();
  readonly #limits: SocketLimits;
  readonly #budget: SocketBudget;
  readonly #questions: Turns;
  readonly #place: SocketPlace<Deno.UnixListener>;

  /**
   * @param path Path of the socket as this process sees it; its folder must belong to root alone.
   */
  constructor(
    path: string,
    private readonly pods: PodProvider,
    private readonly observer: SocketObserver,
    limits: Partial<SocketLimits> = {},
  ) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#budget = new SocketBudget(this.#limits.bytes);
    this.#questions = new Turns(this.#limits.questions);
    this.#place = new SocketPlace(path, {
      open: (path) => Deno.listen({ transport: "unix", path }),
      close: closeListener,
    });
  }

  /** Bytes that all connections hold together. */
  get heldBytes(): number {
    return this.#budget.used;
  }

  /** Whether the socket is there and it is ours. */
  isServing(): boolean {
    return this.#place.isServing;
  }

  /**
   * Makes the socket unless it is being served already; replaces a stale one.
   *
   * @throws as {@linkcode SocketPlace.ensureServing}.
   */
  ensureServing(): void {
    if (this.#place.ensureServing()) this.#accept(this.#place.listener!);
  }

  /** Stops serving and removes the socket. */
  close(): void {
    this.#place.close();
    for (const connection of this.#connections) closeQuietly(connection);
  }

  async #accept(listener: Deno.UnixListener): Promise<void> {
    while (this.#place.listener === listener) {
      let connection: Deno.UnixConn;
      try {
        connection = await listener.accept();
      } catch (error) {
        if (this.#place.listener !== listener) return;
        this.observer.failed("accept", error);
        // Out of file descriptors, most likely: some will be closed soon.
        await new Promise((resolve) => setTimeout(resolve, 50));
        continue;
      }
      if (this.#connections.size >= this.#limits.connections) {
        closeQuietly(connection);
        this.observer.failed("overload", new Error("Too many connections"));
        continue;
      }
      this.#connections.add(connection);
      this.#serve(connection).finally(() => {
        this.#connections.delete(connection);
        closeQuietly(connection);
      });
    }
  }

  async #serve(connection: Deno.UnixConn): Promise<void> {
    const lines = new LineStream(connection, this.#budget);
    const unfinished: Promise<unknown>[] = [];
    try {
      await this.#converse(connection, lines, unfinished);
    } finally {
      lines.discard();
      closeQuietly(connection);
      // A write that nobody reads outlives the closing, and counts as a connection until it ends.
      await Promise.allSettled(unfinished);
    }
  }

  async #converse(
    connection: Deno.UnixConn,
    lines: LineStream,
    unfinished: Promise<unknown>[],
  ): Promise<void> {
    const inTime = <T>(work: Promise<T>) => this.#inTime(connection, work, unfinished);
    while (true) {
      let line: string | undefined;
      try {
        line = await inTime(lines.readLine());
      } catch (error) {
        if (error instanceof RangeError) this.observer.failed("protocol", error);
        if (error instanceof OverloadError) this.observer.failed("overload", error);
        if (error instanceof IdleError) this.observer.failed("timeout", error);
        return;
      }
      if (line === undefined) return;
      try {
        const request = parseRequest(line);
        if (request.type === "finish") {
          this.observer.finished(request);
          await inTime(lines.writeLine(finished));
        } else {
          await this.#answer((response) => inTime(lines.writeLine(response)), request);
        }
      } catch (error) {
        this.observer.failed(
          error instanceof TypeError
            ? "protocol"
            : error instanceof OverloadError
            ? "overload"
            : error instanceof IdleError
            ? "timeout"
            : "write",
          error,
        );
        return;
      }
    }
  }

  /** Waits for the client, and hangs up on one that takes too long. */
  async #inTime<T>(
    connection: Deno.UnixConn,
    work: Promise<T>,
    unfinished: Promise<unknown>[],
  ): Promise<T> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const idle = setTimeout(() => {
      unfinished.push(work);
      closeQuietly(connection);
      reject(new IdleError("Client was idle for too long"));
    }, this.#limits.idleMilliseconds);
    try {
      return await Promise.race([work, late]);
    } finally {
      clearTimeout(idle);
    }
  }

  async #answer(
    send: (response: AgentResponse) => Promise<void>,
    request: PodRequest,
  ): Promise<void> {
    const known = this.pods.cached(request);
    if (known !== undefined) {
      this.observer.podAnswered("cache");
      return await send({ type: "pod", pod: known });
    }
    await send({ type: "pending" });
    let response: AgentResponse;
    try {
      const signal = AbortSignal.timeout(this.#limits.fetchMilliseconds);
      const pod = await this.#questions.take(() => this.pods.fetch(request, signal));
      this.observer.podAnswered("api");
      response = { type: "pod", pod };
    } catch (error) {
      this.observer.podAnswered("error");
      response = podError(error);
    }
    await send(response);
  }
}

/** A client took too long. */
class IdleError extends Error {
  override readonly name = "IdleError";
}

const finished: AgentResponse = { type: "finished" };

/** An error as a word; `temporary` and `status` are taken over when the error carries them. */
function podError(error: unknown): AgentResponse {
  const message = messageOf(error);
  const { temporary, status } = (error ?? {}) as { temporary?: unknown; status?: unknown };
  return {
    type: "pod-error",
    temporary: temporary !== false,
    message,
    ...(typeof status === "number" ? { status } : {}),
  };
}

/** Closing unlinks the path, which may belong to a successor by now. */
function closeListener(listener: Deno.UnixListener, path: string, isOurs: boolean): void {
  const aside = `${path}.aside`;
  const isAside = !isOurs && renameIfPresent(path, aside);
  closeQuietly(listener);
  if (isAside) renameIfPresent(aside, path);
}

function renameIfPresent(from: string, to: string): boolean {
  try {
    Deno.renameSync(from, to);
    return true;
  } catch {
    return false;
  }
}

function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch {
    // Closed already.
  }
}
