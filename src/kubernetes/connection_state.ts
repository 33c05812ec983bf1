/**
 * What is known about the way to the API server: requests report how they ended, and whoever tells
 * people (readiness, metrics, `check`) reads it. Only the API server's word counts here.
 */
import { messageOf } from "../text/message_of.ts";
import { ApiError } from "./errors.ts";

/** What a request asks for, as roles (RBAC) name it. */
export type Verb = "get" | "list" | "watch";

/** Why a request failed. */
export type ConnectionFailureKind =
  /** No connection, or it broke. */
  | "unreachable"
  /** No complete answer in time. */
  | "timeout"
  /** The server's certificate is not accepted, or the kubeconfig's certificates cannot be used. */
  | "tls"
  /** 401: the token has expired, was revoked or is of another cluster. */
  | "unauthorized"
  /** 403: a right is missing. */
  | "forbidden"
  /** 429 or 5xx: the server is there and cannot answer now. */
  | "unavailable"
  /** Something answered that is not an API server. */
  | "content"
  /** The token's file cannot be read, so nothing was sent. */
  | "credentials";

/** One failed request. */
export interface ConnectionFailure {
  readonly kind: ConnectionFailureKind;
  readonly verb: Verb;
  /** HTTP status, when there was one. */
  readonly status: number | undefined;
  /** The whole message, bounded. */
  readonly reason: string;
  /** When it ended, in milliseconds since the epoch. */
  readonly time: number;
}

/** How the last requests went; one may serve several clients, one after the other. */
export class ConnectionState {
  #lastSuccess: number | undefined;
  #lastFailure: ConnectionFailure | undefined;
  #problem: ConnectionFailure | undefined;
  #problemSince: number | undefined;
  readonly #forbidden = new Set<Verb>();

  /** @param now The clock, in milliseconds since the epoch. */
  constructor(private readonly now: () => number = Date.now) {}

  /** When the server last answered what it was asked, in milliseconds since the epoch. */
  get lastSuccess(): number | undefined {
    return this.#lastSuccess;
  }

  /** The last failure of all, overcome or not. */
  get lastFailure(): ConnectionFailure | undefined {
    return this.#lastFailure;
  }

  /**
   * What the last request failed at when it would stop every other one as well: meshed pods that
   * nobody knows yet cannot start. A missing right is not among these, see {@linkcode forbidden}.
   */
  get problem(): ConnectionFailure | undefined {
    return this.#problem;
  }

  /** Since when there has been a {@linkcode problem} without a break, in milliseconds since the epoch. */
  get problemSince(): number | undefined {
    return this.#problemSince;
  }

  /** What the account was last refused; the plugin needs `get` alone. */
  get forbidden(): readonly Verb[] {
    return [...this.#forbidden];
  }

  /** A request was answered. */
  succeeded(verb: Verb): void {
    this.#lastSuccess = this.now();
    this.#forbidden.delete(verb);
    this.#overcome();
  }

  /** A request failed; one that its caller ended proves nothing and is not reported. */
  failed(verb: Verb, error: unknown): void {
    const status = error instanceof ApiError ? error.status : undefined;
    const kind = kindOf(error);
    // The server is there and has done as it should: there is no such object, or no longer.
    if (kind === undefined) return this.succeeded(verb);
    const reason = messageOf(error).slice(0, 500);
    const time = this.now();
    this.#lastFailure = { kind, verb, status, reason, time };
    if (kind === "forbidden") {
      this.#forbidden.add(verb);
      return this.#overcome();
    }
    this.#problem = this.#lastFailure;
    this.#problemSince ??= time;
  }

  #overcome(): void {
    this.#problem = undefined;
    this.#problemSince = undefined;
  }
}

/** The kind of a failure; `undefined` when it proves that the server answers. */
function kindOf(error: unknown): ConnectionFailureKind | undefined {
  if (!(error instanceof ApiError)) return "credentials";
  switch (error.kind) {
    case "connection":
      return "unreachable";
    case "status":
      break;
    default:
      return error.kind;
  }
  const status = error.status ?? 500;
  if (status === 401) return "unauthorized";
  if (status === 403) return "forbidden";
  if (status >= 500 || status === 429 || status === 408) return "unavailable";
  // A redirect is none of an API server's answers.
  return status < 400 ? "content" : undefined;
}
