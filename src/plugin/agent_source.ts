/** The node agent as a source of pods. */
import type { AgentClient } from "../agent/client.ts";
import type { Pod } from "../kubernetes/pod.ts";
import { type PodReference, type PodSource, SourceUnavailableError } from "../pod/source.ts";
import { messageOf } from "../text/message_of.ts";

/**
 * Asks the node agent once. Whatever goes wrong there, the look-up goes on without it: the agent may
 * be restarting, or lack rights that the kubeconfig has.
 */
export class AgentPodSource implements PodSource {
  readonly name = "node agent";

  /**
   * @param agent A connection to the agent.
   * @param patienceMilliseconds Bound of the wait while the agent itself asks the API server.
   */
  constructor(readonly agent: AgentClient, readonly patienceMilliseconds: number) {}

  /** @throws {SourceUnavailableError} always when the agent does not have the pod. */
  async get(reference: PodReference): Promise<Pod> {
    try {
      return await this.agent.pod(reference, this.patienceMilliseconds);
    } catch (cause) {
      const reason = messageOf(cause);
      throw new SourceUnavailableError(`Node agent: ${reason}`, { cause });
    }
  }
}
