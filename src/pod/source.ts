/** Where a pod can be asked for. */
import type { Pod } from "../kubernetes/pod.ts";

/** Names a pod; `uid` is the runtime's idea of it. */
export interface PodReference {
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
}

/** A source of pods, such as the node agent or the API server. */
export interface PodSource {
  /** For messages, for example `agent`. */
  readonly name: string;
  /**
   * Gets the pod of that namespace and name, whatever its UID.
   *
   * @param signal Ends the request.
   * @throws {SourceUnavailableError} when this source is not worth another question.
   * @throws {ApiError} or another error when there is no pod to be had.
   */
  get(reference: PodReference, signal: AbortSignal): Promise<Pod>;
  /**
   * Reads the credentials again.
   *
   * @returns Whether they have changed.
   */
  renew?(): boolean;
}

/** The source is not there or does not work: the look-up goes on without it. */
export class SourceUnavailableError extends Error {
  override readonly name = "SourceUnavailableError";
}
