/** Tells people about an object, in Events that `kubectl describe` shows beside it. */
import { messageOf } from "../../src/text/message_of.ts";
import type { Logger } from "../../src/log/log.ts";
import type { LeaderWrites } from "./leader_writes.ts";

/** What an Event is about. */
export interface EventSubject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
  readonly uid: string;
}

/** One thing to tell. */
export interface EventText {
  readonly type: "Normal" | "Warning";
  /** One word in upper camel case. */
  readonly reason: string;
  readonly message: string;
}

/** Longest message that the API takes (core/v1 Event). */
const longestMessage = 1024;

/** Writes Events; one that cannot be written is lost, since it must hold up nothing. */
export class Events {
  constructor(private readonly writes: LeaderWrites, private readonly log: Pick<Logger, "debug">) {}

  /** Tells one thing; never rejects. */
  async tell(subject: EventSubject, { type, reason, message }: EventText): Promise<void> {
    // Those of objects without a namespace stand in this one, where kubectl looks for them.
    const namespace = subject.namespace ?? "default";
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    const body = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { generateName: `${subject.name}.`, namespace },
      involvedObject: subject,
      type,
      reason,
      message: message.slice(0, longestMessage),
      source: { component: "kuma-cni-controller" },
      reportingComponent: "kuma-cni-controller",
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    const path = `/api/v1/namespaces/${namespace}/events`;
    try {
      await this.writes.change(
        { verb: "create", path, body },
        "events",
        `an Event in "${namespace}"`,
      );
    } catch (error) {
      this.log.debug("Event was not written", { reason, error: messageOf(error) });
    }
  }
}
