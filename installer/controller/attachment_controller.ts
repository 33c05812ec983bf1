/**
 * Has a NetworkAttachmentDefinition in each namespace that asks for one by its label, so that Multus
 * calls the plugin there. It sleeps while the cluster does not know that kind of object.
 */
import { type Change, isConflict } from "../../src/kubernetes/changes.ts";
import { ApiError } from "../../src/kubernetes/errors.ts";
import { ObjectStore } from "../../src/kubernetes/object_store.ts";
import type { Reflector } from "../../src/kubernetes/reflector.ts";
import { WorkQueue, type WorkResult } from "../../src/kubernetes/work_queue.ts";
import { messageOf } from "../../src/text/message_of.ts";
import {
  adoptingPatch,
  ATTACHMENT,
  type Attachment,
  ATTACHMENT_GROUP,
  ATTACHMENT_RESOURCE,
  type Namespace,
  newAttachment,
  parseAttachment,
  parseNamespace,
} from "./attachment.ts";
import { decideAttachment } from "./attachment_decision.ts";
import { NotLeadingError } from "./leader_writes.ts";
import { follow, type TermContext } from "./term_context.ts";

/** Name of the definition that makes the kind known. */
const definition = `${ATTACHMENT_RESOURCE}.${ATTACHMENT_GROUP}`;

/** One term's attachment controller. */
export class AttachmentController {
  readonly #definitions: Reflector<string>;
  /** Ends what runs while the kind is known. */
  #known: AbortController | undefined;
  #working = Promise.resolve();

  constructor(private readonly context: TermContext) {
    const store = new ObjectStore<string>({ keyOf: (name) => name }, (before, after) => {
      if (after === undefined) this.#forget();
      else if (before === undefined) this.#begin();
    });
    this.#definitions = follow(context, {
      decides: "attachment",
      store,
      watched: {
        path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        fieldSelector: `metadata.name=${definition}`,
        metadataOnly: true,
        parse: () => definition,
      },
    });
  }

  /** Whether it knows if there is anything to do. */
  get live(): boolean {
    return this.#definitions.live;
  }

  /** Works until the term ends; never rejects. */
  async run(): Promise<void> {
    await this.#definitions.run();
    this.#known?.abort();
    await this.#working;
  }

  #begin(): void {
    this.context.log.info("NetworkAttachmentDefinitions are known, namespaces are followed");
    const known = new AbortController();
    this.#known = known;
    const signal = AbortSignal.any([known.signal, this.context.term.signal]);
    const before = this.#working;
    this.#working = before.then(() => new Namespaces(this.context, signal).run());
  }

  #forget(): void {
    this.context.log.info("NetworkAttachmentDefinitions are not known any longer");
    this.#known?.abort();
    this.#known = undefined;
  }
}

/** The work while the kind is known. */
class Namespaces {
  readonly #namespaces: ObjectStore<Namespace>;
  readonly #attachments: ObjectStore<Attachment>;
  readonly #queue: WorkQueue;
  readonly #reflectors: readonly [Reflector<Namespace>, Reflector<Attachment>];
  /** What was last said of a namespace. */
  readonly #said = new Map<string, string>();

  constructor(private readonly context: TermContext, private readonly signal: AbortSignal) {
    this.#queue = new WorkQueue((name) => this.#look(name), { workers: 4 }, this.#failed);
    this.#namespaces = new ObjectStore<Namespace>(
      { keyOf: ({ name }) => name },
      (before, after) => {
        if (after === undefined) this.#said.delete(before!.name);
        else if (JSON.stringify(before) !== JSON.stringify(after)) this.#queue.add(after.name);
      },
    );
    this.#attachments = new ObjectStore<Attachment>(
      { keyOf: ({ namespace }) => namespace },
      (before, after) => this.#queue.add((after ?? before)!.namespace),
    );
    const lookAtAll = () => {
      if (!this.#live) return;
      for (const { name } of this.#namespaces.values()) this.#queue.add(name);
    };
    const common = { decides: "attachment", synchronized: lookAtAll, signal } as const;
    this.#reflectors = [
      follow(context, {
        ...common,
        store: this.#namespaces,
        watched: { path: "/api/v1/namespaces", metadataOnly: true, parse: parseNamespace },
      }),
      follow(context, {
        ...common,
        store: this.#attachments,
        watched: {
          path: `/apis/${ATTACHMENT_GROUP}/v1/${ATTACHMENT_RESOURCE}`,
          fieldSelector: `metadata.name=${ATTACHMENT}`,
          parse: parseAttachment,
        },
      }),
    ];
  }

  async run(): Promise<void> {
    await Promise.all(this.#reflectors.map((reflector) => reflector.run()));
    await this.#queue.stop();
  }

  get #live(): boolean {
    return this.#reflectors.every((reflector) => reflector.live);
  }

  async #look(name: string): Promise<WorkResult> {
    if (!this.#live || this.signal.aborted) return undefined;
    const namespace = this.#namespaces.get(name);
    if (namespace === undefined) return undefined;
    const attachment = this.#attachments.get(name);
    const { terminating, label } = namespace;
    const decision = decideAttachment({ terminating, label, attachment: attachment?.owner });
    if (decision.action !== "say") this.#said.delete(name);
    switch (decision.action) {
      case "create":
        await this.#change({ verb: "create", path: pathIn(name), body: newAttachment(name) });
        this.context.log.info("Attachment definition is created", { namespace: name });
        break;
      case "adopt":
        await this.#change({
          verb: "patch",
          path: `${pathIn(name)}/${ATTACHMENT}`,
          operations: adoptingPatch(attachment!),
        });
        this.context.log.info("Attachment definition of the control plane is taken over", {
          namespace: name,
        });
        break;
      case "delete": {
        const { uid, resourceVersion } = attachment!;
        const path = `${pathIn(name)}/${ATTACHMENT}`;
        await this.#change({ verb: "delete", path, uid, resourceVersion });
        this.context.log.info("Attachment definition is deleted", { namespace: name });
        break;
      }
      case "say":
        await this.#say(namespace, decision.reason, attachment);
        break;
    }
    return undefined;
  }

  /** Says the same thing once, whatever else happens to the namespace. */
  async #say(namespace: Namespace, reason: string, attachment?: Attachment): Promise<void> {
    const { name, uid, label } = namespace;
    const message = reason === "InvalidLabel"
      ? `Label kuma.io/sidecar-injection is ${
        JSON.stringify(label)
      }, expected enabled, true, yes, ` +
        "disabled, false or no; its attachment definition is left as it is"
      : `NetworkAttachmentDefinition "${ATTACHMENT}" is left alone: it ` +
        (attachment?.owner === "ours-changed"
          ? "was changed; its spec.config must be empty for Multus to find the plugin's"
          : "is somebody else's; Multus may call something else than this CNI");
    if (this.#said.get(name) === message) return;
    this.#said.set(name, message);
    this.context.log.warn("Namespace is not as it should be", { namespace: name, why: message });
    const subject = { apiVersion: "v1", kind: "Namespace", name, uid };
    await this.context.events.tell(subject, { type: "Warning", reason, message });
  }

  async #change(change: Change): Promise<void> {
    const what = `NetworkAttachmentDefinition at ${change.path}`;
    try {
      await this.context.writes.change(change, ATTACHMENT_RESOURCE, what);
    } catch (error) {
      // Gone, or made by the control plane's own controller meanwhile: as it should be, or told soon.
      const status = error instanceof ApiError ? error.status : undefined;
      if (change.verb === "delete" && status === 404) return;
      if (change.verb === "create" && status === 409) return;
      throw error;
    }
  }

  readonly #failed = (name: string, error: unknown, retryMilliseconds: number): void => {
    if (error instanceof NotLeadingError || this.signal.aborted) return;
    const fields = { namespace: name, reason: messageOf(error), retryMilliseconds };
    // Somebody else was first, the control plane's own controller perhaps: the next look sees it.
    if (isConflict(error)) {
      this.context.log.debug("Attachment definition has changed meanwhile", fields);
    } else this.context.log.warn("Attachment definition could not be changed", fields);
  };
}

function pathIn(namespace: string): string {
  return `/apis/${ATTACHMENT_GROUP}/v1/namespaces/${namespace}/${ATTACHMENT_RESOURCE}`;
}
