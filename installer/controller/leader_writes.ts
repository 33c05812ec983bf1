/** Changes of the cluster that only a leader may make. */
import type { Change } from "../../src/kubernetes/changes.ts";
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import type { Term } from "../../src/kubernetes/lease_election.ts";

/** The Lease is not held any longer, so nothing was sent. */
export class NotLeadingError extends Error {
  override readonly name = "NotLeadingError";
}

/** Sends changes while a term lasts. */
export class LeaderWrites {
  /**
   * @param client Gives the client to write with.
   * @param counted Hears of each change that is sent.
   */
  constructor(
    private readonly client: () => KubernetesClient,
    private readonly term: Term,
    private readonly counted: (verb: Change["verb"], what: string) => void = () => {},
  ) {}

  /**
   * Makes one change; the end of the term ends it.
   *
   * @param kind Kind of the object, for the count.
   * @param what The object, as messages name it.
   * @throws {NotLeadingError} when the term is over.
   * @throws {ApiError} when it fails.
   */
  async change(change: Change, kind: string, what: string): Promise<Record<string, unknown>> {
    if (!this.term.isHeld) {
      throw new NotLeadingError(`Not changed, since the Lease is lost: ${what}`);
    }
    this.counted(change.verb, kind);
    return await this.client().change(change, { what, signal: this.term.signal });
  }
}
