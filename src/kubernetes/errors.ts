/** What can go wrong between this program and an API server. */

/** Where it went wrong. */
export type ApiErrorKind =
  /** No connection, or it broke. */
  | "connection"
  /** The server's certificate or the TLS handshake was refused. */
  | "tls"
  /** No complete answer in time. */
  | "timeout"
  /** The server answered with a failure; `status` tells which. */
  | "status"
  /** The server answered with something else than what was asked for. */
  | "content";

/** What is wrong with a certificate. */
export type CertificateProblem =
  /** The server's is of another authority than the kubeconfig's. */
  | "unknown-authority"
  /** The server's is for other names. */
  | "other-name"
  /** The server's is outside its time of validity. */
  | "out-of-time"
  /** One of the kubeconfig's, or a setting that belongs to it, cannot be used. */
  | "unusable"
  /** Something else, or it was not TLS that answered. */
  | "other";

/** A request to the API server failed; the message names request, reason and the fix when known. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly kind: ApiErrorKind;
  /** More about an error of the kind `tls`. */
  readonly certificateProblem: CertificateProblem | undefined;
  /** HTTP status, when the server answered with a failure. */
  readonly status: number | undefined;
  /** Reason of the Status object, for example `NotFound`. */
  readonly reason: string | undefined;
  /** The server's wish for how long to wait, in milliseconds. */
  readonly retryAfterMilliseconds: number | undefined;
  /** The same request can succeed later without anybody's doing. */
  readonly temporary: boolean;

  constructor(
    message: string,
    facts: {
      readonly kind: ApiErrorKind;
      readonly certificateProblem?: CertificateProblem | undefined;
      readonly status?: number | undefined;
      readonly reason?: string | undefined;
      readonly retryAfterMilliseconds?: number | undefined;
      readonly temporary: boolean;
      readonly cause?: unknown;
    },
  ) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.kind = facts.kind;
    this.certificateProblem = facts.certificateProblem;
    this.status = facts.status;
    this.reason = facts.reason;
    this.retryAfterMilliseconds = facts.retryAfterMilliseconds;
    this.temporary = facts.temporary;
  }
}
