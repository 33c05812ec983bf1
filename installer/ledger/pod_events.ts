/** Tells a pod's owner, in Events that `kubectl describe pod` shows. */
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import type { Logger } from "../../src/log/log.ts";
import { messageOf } from "../../src/text/message_of.ts";

/** One thing to tell. */
export interface PodEvent {
  readonly type: "Normal" | "Warning";
  /** One word in upper camel case. */
  readonly reason: string;
  readonly message: string;
}

/** The pod that it is about. */
export interface EventPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** Longest message that the API takes (core/v1 Event). */
const longestMessage = 1024;
/** Most Events in a minute: a node whose every pod has drifted must not flood the cluster. */
const mostInMinute = 20;

/** Writes Events; one that cannot be written is lost, since it must hold up nothing. */
export class PodEvents {
  #minute = 0;
  #written = 0;
  #isForbidden = false;

  /** @param client Gives the client to write with; may fail. */
  constructor(
    private readonly client: () => KubernetesClient,
    private readonly log: Pick<Logger, "info" | "debug">,
  ) {}

  /** Tells one thing; never rejects. */
  async tell(pod: EventPod, { type, reason, message }: PodEvent): Promise<void> {
    const minute = Math.floor(Date.now() / 60_000);
    if (minute !== this.#minute) [this.#minute, this.#written] = [minute, 0];
    if (++this.#written > mostInMinute) return;
    const { namespace, name, uid } = pod;
    const time = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const body = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { generateName: `${name}.`, namespace },
      involvedObject: { apiVersion: "v1", kind: "Pod", name, namespace, uid },
      type,
      reason,
      message: message.slice(0, longestMessage),
      source: { component: "kuma-cni" },
      reportingComponent: "kuma-cni",
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    };
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/events`;
    try {
      const signal = AbortSignal.timeout(10_000);
      const what = `an Event in "${namespace}"`;
      await this.client().change({ verb: "create", path, body }, { what, signal });
    } catch (error) {
      // Said once: without the right it is so each time.
      const level = this.#isForbidden ? "debug" : "info";
      this.#isForbidden = true;
      this.log[level]("Event about a pod was not written", { reason, error: messageOf(error) });
    }
  }
}
