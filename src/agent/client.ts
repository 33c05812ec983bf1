/** The plugin's end of the agent's socket. Whatever the agent does, no wait is longer than bounded. */
import type { LedgerEntry } from "../ledger/entry.ts";
import type { LogRecord } from "../log/log.ts";
import type { Pod } from "../kubernetes/pod.ts";
import { LineStream } from "./lines.ts";
import {
  type AgentRequest,
  type AgentResponse,
  type CallOutcome,
  parseResponse,
} from "./messages.ts";

/** Longest wait for a word of the agent, in milliseconds. */
export const AGENT_SILENCE_MILLISECONDS = 200;

/** The agent is not there, silent, or talks nonsense: go on without it. */
export class AgentUnavailableError extends Error {
  override readonly name = "AgentUnavailableError";
}

/** The agent asked the API server and did not get the pod. */
export class AgentPodError extends Error {
  override readonly name = "AgentPodError";
  constructor(message: string, readonly temporary: boolean, readonly status?: number) {
    super(message);
  }
}

/** A connection to the agent, for one plugin call. */
export class AgentClient {
  readonly #connection: Deno.Conn;
  readonly #lines: LineStream;
  #silent = false;

  private constructor(connection: Deno.Conn, readonly silenceMilliseconds: number) {
    this.#connection = connection;
    this.#lines = new LineStream(connection);
  }

  /**
   * Connects to the agent's socket.
   *
   * @param path Host path of the socket.
   * @param silenceMilliseconds Bound of each wait.
   * @returns The client, or `undefined` when nobody listens there.
   */
  static async connect(
    path: string,
    silenceMilliseconds: number = AGENT_SILENCE_MILLISECONDS,
  ): Promise<AgentClient | undefined> {
    try {
      const connection = await withBound(
        Deno.connect({ transport: "unix", path }),
        silenceMilliseconds,
        (late) => late.close(),
      );
      return new AgentClient(connection, silenceMilliseconds);
    } catch {
      return undefined;
    }
  }

  /**
   * Asks for a pod.
   *
   * @param waitMilliseconds Bound of the wait once the agent has said that it must ask the API server.
   * @throws {AgentPodError} when the agent could not get it.
   * @throws {AgentUnavailableError} when the agent is silent or gone.
   */
  async pod(
    reference: { readonly namespace: string; readonly name: string; readonly uid?: string },
    waitMilliseconds: number,
  ): Promise<Pod> {
    const { namespace, name, uid } = reference;
    let response = await this.#exchange({
      type: "pod",
      namespace,
      name,
      ...(uid === undefined ? {} : { uid }),
    });
    if (response.type === "pending") {
      response = await this.#next(Math.max(waitMilliseconds, this.silenceMilliseconds));
    }
    switch (response.type) {
      case "pod":
        if (response.pod.namespace === namespace && response.pod.name === name) return response.pod;
        throw this.#gone("Agent answered with another pod");
      case "pod-error":
        throw new AgentPodError(response.message, response.temporary, response.status);
    }
    throw this.#gone(`Agent answered a request for a pod with "${response.type}"`);
  }

  /**
   * Hands over the log records and the outcome of this call, and what it did to the sandbox.
   *
   * @returns Whether the agent has taken them; when not, they belong into the fallback log file.
   */
  async finish(
    records: readonly LogRecord[],
    outcome?: CallOutcome,
    entry?: LedgerEntry,
  ): Promise<boolean> {
    if (this.#silent) return false;
    try {
      const response = await this.#exchange({
        type: "finish",
        records,
        ...(outcome === undefined ? {} : { outcome }),
        ...(entry === undefined ? {} : { entry }),
      });
      return response.type === "finished";
    } catch {
      return false;
    }
  }

  /** Closes the connection. */
  close(): void {
    try {
      this.#connection.close();
    } catch {
      // Already closed by a failed exchange.
    }
  }

  async #exchange(request: AgentRequest): Promise<AgentResponse> {
    if (this.#silent) throw this.#gone("Agent has not answered before");
    try {
      await withBound(this.#lines.writeLine(request), this.silenceMilliseconds);
    } catch (error) {
      throw this.#gone("Could not write to the agent's socket", error);
    }
    return await this.#next(this.silenceMilliseconds);
  }

  async #next(milliseconds: number): Promise<AgentResponse> {
    try {
      const line = await withBound(this.#lines.readLine(), milliseconds);
      if (line === undefined) throw new Error("Agent closed the connection");
      return parseResponse(line);
    } catch (error) {
      throw this.#gone("Agent did not answer", error);
    }
  }

  /** Closes at once: a read left open would keep the plugin's process alive. */
  #gone(message: string, cause?: unknown): AgentUnavailableError {
    this.#silent = true;
    this.close();
    return new AgentUnavailableError(
      message,
      ...(cause === undefined ? [] : [{ cause }]),
    );
  }
}

/** Waits for work at most so long; `late` disposes of a result that arrives after that. */
async function withBound<T>(
  work: Promise<T>,
  milliseconds: number,
  late: (value: T) => void = () => {},
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const bound = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`No answer within ${milliseconds} ms`)),
      milliseconds,
    );
  });
  try {
    return await Promise.race([work, bound]);
  } catch (error) {
    work.then(late, () => {});
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
