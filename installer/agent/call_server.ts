/**
 * The agent's end of the shim's socket: takes calls of the plugin, has them served, and sends the
 * answers. Waiting for many is one thread's work; serving is done in turn, since all of it that is
 * not waiting runs on the program's one thread. A shim that gets no answer does the call without us,
 * so whatever is wrong here costs time only.
 */
import { formatAnswer, type ShimAnswer, type ShimRequest } from "../../src/shim/words.ts";
import { EventPoll } from "../../src/linux/event_poll.ts";
import type { FileDescriptor } from "../../src/linux/libc.ts";
import { acceptNext, listenAt, peerUser } from "../../src/linux/unix_stream.ts";
import { CallConnection } from "./call_connection.ts";
import { OverloadError, SocketBudget } from "./socket_budget.ts";
import { SocketPlace } from "./socket_place.ts";

/** Serves one call. */
export type ServeCall = (request: ShimRequest, from: CallConnection) => Promise<ServedCall>;

/** How a call was served. */
export interface ServedCall {
  readonly answer: ShimAnswer;
  /** Called once the answer is on its way. */
  readonly finish?: () => void;
}

/** What the server tells its owner. */
export interface CallObserver {
  /** The socket is there, at first or anew. */
  listening?(): void;
  /** A connection was dropped, or answered that the plugin must do the call, without being served. */
  failed(cause: CallFailure, error: unknown): void;
}

/** Why a connection came to nothing. */
export type CallFailure = "protocol" | "timeout" | "overload" | "accept" | "peer" | "internal";

/** Bounds of the server. */
export interface CallLimits {
  /** Calls at once; further ones go to the plugin. */
  readonly calls: number;
  /** Bytes of all calls and answers together. */
  readonly bytes: number;
  /** Milliseconds until a call must be complete, and its answer read. */
  readonly idleMilliseconds: number;
}

const defaultLimits: CallLimits = {
  // What is served in well under a second, so that nobody waits in vain.
  calls: 128,
  bytes: 8 * 1024 * 1024,
  // The shim itself waits 3 s.
  idleMilliseconds: 3000,
};

const runItYourself = formatAnswer({ kind: "run-it-yourself" });

/** Serves the shim's socket until closed. */
export class CallServer {
  readonly #limits: CallLimits;
  readonly #budget: SocketBudget;
  /** By number of descriptor. */
  readonly #connections = new Map<number, CallConnection>();
  readonly #timers = new Map<CallConnection, ReturnType<typeof setTimeout>>();
  /** Connections whose call is being served. */
  readonly #serving = new Set<CallConnection>();
  #poll: EventPoll | undefined;
  #running: Promise<void> | undefined;
  readonly #place: SocketPlace<FileDescriptor>;

  /** @param path Path of the socket as this process sees it; its folder must belong to root alone. */
  constructor(
    path: string,
    private readonly serve: ServeCall,
    private readonly observer: CallObserver,
    limits: Partial<CallLimits> = {},
  ) {
    this.#limits = { ...defaultLimits, ...limits };
    this.#budget = new SocketBudget(this.#limits.bytes);
    this.#place = new SocketPlace(path, {
      open: (path) => this.#listen(path),
      close: (listener) => {
        this.#poll?.remove(listener.number);
        listener[Symbol.dispose]();
      },
    });
  }

  /** Bytes that all connections hold together. */
  get heldBytes(): number {
    return this.#budget.used;
  }

  /** Number of connections. */
  get size(): number {
    return this.#connections.size;
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
    if (this.#place.ensureServing()) this.observer.listening?.();
  }

  /**
   * Stops serving and removes the socket; whoever waits for an answer gets none.
   *
   * @returns when no thread waits any more.
   */
  async close(): Promise<void> {
    this.#place.close();
    for (const connection of this.#connections.values()) this.#drop(connection);
    this.#poll?.close();
    this.#poll = undefined;
    await this.#running;
  }

  #listen(path: string): FileDescriptor {
    using cleanup = new DisposableStack();
    const listener = cleanup.use(listenAt(path));
    if (this.#poll === undefined) {
      this.#poll = new EventPoll();
      this.#running = this.#run(this.#poll);
    }
    this.#poll.add(listener.number, "input");
    cleanup.move();
    return listener;
  }

  async #run(poll: EventPoll): Promise<void> {
    while (this.#poll === poll) {
      for (const { descriptor, ended } of await poll.wait()) {
        const { listener } = this.#place;
        const connection = this.#connections.get(descriptor);
        if (connection !== undefined) this.#attend(connection, ended);
        else if (descriptor === listener?.number && !this.#accept(listener)) {
          // Out of file descriptors, most likely: some will be closed soon.
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
    }
  }

  /** Takes all connections that there are; `false` when the kernel refuses. */
  #accept(listener: FileDescriptor): boolean {
    for (;;) {
      let socket: FileDescriptor | undefined;
      try {
        socket = acceptNext(listener);
      } catch (error) {
        this.observer.failed("accept", error);
        return false;
      }
      if (socket === undefined) return true;
      const connection = new CallConnection(socket, this.#budget);
      this.#connections.set(socket.number, connection);
      if (peerUser(socket) !== 0) {
        this.#fail(connection, "peer", new Error("Whoever connected is not root"));
      } else if (this.#connections.size > this.#limits.calls) {
        this.#refuse(connection, new OverloadError("Too many calls at once"));
      } else {
        this.#receive(connection, "new");
      }
    }
  }

  /** Something has happened to a connection: more of the call, room for the answer, or its end. */
  #attend(connection: CallConnection, ended: boolean): void {
    if (ended) return this.#drop(connection);
    if (this.#serving.has(connection)) this.#send(connection);
    else this.#receive(connection, "known");
  }

  #receive(connection: CallConnection, state: "new" | "known"): void {
    let request: ShimRequest | undefined;
    try {
      request = connection.receive();
    } catch (error) {
      return error instanceof OverloadError
        ? this.#refuse(connection, error)
        : this.#fail(connection, "protocol", error);
    }
    if (request === undefined) {
      if (state === "new") this.#wait(connection, "input");
      return;
    }
    this.#serving.add(connection);
    // Nothing is expected now but its end.
    if (state === "known") this.#poll?.change(connection.descriptor, "end");
    void this.#answer(connection, request, state);
  }

  async #answer(
    connection: CallConnection,
    request: ShimRequest,
    state: "new" | "known",
  ): Promise<void> {
    try {
      const { answer, finish } = await this.serve(request, connection);
      if (this.#isKnown(connection)) this.#send(connection, formatAnswer(answer), state);
      finish?.();
    } catch (error) {
      this.#fail(connection, "internal", error);
    }
  }

  #send(
    connection: CallConnection,
    answer?: Uint8Array<ArrayBuffer>,
    state: "new" | "known" = "known",
  ): void {
    try {
      if (connection.send(answer)) return this.#drop(connection);
      // It went on to be sent before, and waits already.
      if (answer === undefined) return;
      if (state === "new") this.#wait(connection, "output");
      else this.#poll?.change(connection.descriptor, "output");
    } catch {
      // Whoever asked is gone, or gets no answer and helps itself.
      this.#drop(connection);
    }
  }

  /** Waits for the rest, within bounds. */
  #wait(connection: CallConnection, interest: "input" | "output"): void {
    try {
      this.#poll?.add(connection.descriptor, interest);
    } catch (error) {
      return this.#fail(connection, "internal", error);
    }
    const timer = setTimeout(() => {
      this.#fail(connection, "timeout", new Error("The shim took too long"));
    }, this.#limits.idleMilliseconds);
    this.#timers.set(connection, timer);
  }

  /** Says at once that the plugin must do the call. */
  #refuse(connection: CallConnection, error: OverloadError): void {
    try {
      connection.send(runItYourself);
    } catch {
      // It learns the same from the end of the connection.
    }
    this.#fail(connection, "overload", error);
  }

  #fail(
    connection: CallConnection,
    cause: CallFailure,
    error: unknown,
  ): void {
    this.#drop(connection);
    this.observer.failed(cause, error);
  }

  #isKnown(connection: CallConnection): boolean {
    return this.#connections.get(connection.descriptor) === connection;
  }

  #drop(connection: CallConnection): void {
    if (!this.#isKnown(connection)) return;
    clearTimeout(this.#timers.get(connection));
    this.#timers.delete(connection);
    this.#serving.delete(connection);
    // Closing takes it out of the set of those that are waited for.
    this.#connections.delete(connection.descriptor);
    connection[Symbol.dispose]();
  }
}
