/** The error object of the CNI protocol: codes, the exception that carries one, and its text form. */

import { shorten } from "../text/shorten.ts";

/**
 * Error codes. 1–99 are the specification's (CNI 1.1.0, section 5, "Error"), 8 and 999 those of its
 * reference library, 100 and above are this plugin's own.
 */
export const CniErrorCode = {
  /** The configuration's `cniVersion` is not supported, or the verb does not exist in it. */
  IncompatibleVersion: 1,
  /** `CNI_*` variables are missing or malformed; the verb is unknown. */
  InvalidEnvironment: 4,
  /** Standard input could not be read. */
  InputOutput: 5,
  /** Standard input is not JSON. */
  Decoding: 6,
  /** The network configuration, or what a pod's annotations ask for, is wrong. */
  InvalidConfig: 7,
  /** `CNI_NETNS` is no network namespace, or is the host's own. */
  InvalidNamespace: 8,
  /** Something outside is in trouble that can heal: the same call later can succeed. */
  TryAgainLater: 11,
  /** STATUS: no ADD can succeed with this configuration. */
  NotAvailable: 50,
  /** The pod cannot be looked up, and asking again does not help (rights, certificates, kubeconfig). */
  LookupRefused: 100,
  /** The rules could not be installed; the namespace is as it was. */
  ApplyFailed: 101,
  /** CHECK: what is installed differs from what should be. */
  CheckFailed: 102,
  /** A defect of this plugin. */
  Internal: 999,
} as const;

/** One of the codes of {@linkcode CniErrorCode}. */
export type CniErrorCode = typeof CniErrorCode[keyof typeof CniErrorCode];

/**
 * Longest `msg` and `details`, in characters: ten differences with both rules fit. Kubelet puts both
 * into an event of the pod, and what they quote can come from anybody.
 */
const MOST_TEXT = 16_384;

/** A failure with its place in the CNI protocol. */
export class CniError extends Error {
  override readonly name = "CniError";

  /**
   * @param code One of {@linkcode CniErrorCode}.
   * @param message What was attempted, on which object, and what went wrong; the result's `msg`.
   * @param details What helps to repair it; the result's `details`, left out when empty.
   */
  constructor(
    readonly code: CniErrorCode,
    message: string,
    readonly details: string = "",
    options?: { readonly cause?: unknown },
  ) {
    super(message, options);
  }
}

/**
 * Makes any thrown value a {@linkcode CniError}; what is none yet becomes code 999.
 *
 * @param thrown What was caught.
 */
export function toCniError(thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown;
  return new CniError(CniErrorCode.Internal, describeChain(thrown), "", { cause: thrown });
}

/**
 * Joins the messages of an error and its causes: `outer: inner: cause`. A cause whose text the
 * message before it already holds is left out.
 *
 * @param thrown What was caught; need not be an `Error`.
 */
export function describeChain(thrown: unknown): string {
  let text = "";
  let current: unknown = thrown;
  for (let depth = 0; depth < 8 && current !== undefined && current !== null; depth++) {
    const message = current instanceof Error ? current.message || current.name : safeText(current);
    if (!text.includes(message)) text = text === "" ? message : `${text}: ${message}`;
    current = current instanceof Error ? current.cause : undefined;
  }
  return text === "" ? "Unknown error" : text;
}

/**
 * Renders the error object as one line of JSON.
 *
 * @param error The error.
 * @param cniVersion The version in use when it is known and supported; the specification wants it in
 * the object since 1.0.0 and readers of older versions ignore it.
 */
export function renderError(error: CniError, cniVersion?: string): string {
  return JSON.stringify({
    ...(cniVersion === undefined ? {} : { cniVersion }),
    code: error.code,
    msg: shorten(error.message, MOST_TEXT),
    ...(error.details === "" ? {} : { details: shorten(error.details, MOST_TEXT) }),
  }) + "\n";
}

function safeText(value: unknown): string {
  try {
    return String(value);
  } catch {
    return `A thrown ${typeof value} without a text form`;
  }
}
