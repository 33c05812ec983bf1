/** Whether a namespace gets or loses its NetworkAttachmentDefinition: the table, without a cluster. */

/** Whose attachment definition it is. */
export type AttachmentOwner =
  /** Ours, by its label, and as we make it. */
  | "ours"
  /** Ours, and changed by somebody. */
  | "ours-changed"
  /** As Kuma's control plane makes it: without labels and owners, with an empty configuration. */
  | "reference"
  | "foreign";

/** What is known about a namespace. */
export interface AttachmentFacts {
  readonly terminating: boolean;
  /** Value of the label `kuma.io/sidecar-injection`. */
  readonly label: string | undefined;
  /** The attachment definition of our name in it, if any. */
  readonly attachment: AttachmentOwner | undefined;
}

/** What is to be done. */
export type AttachmentDecision =
  | { readonly action: "create" | "adopt" | "delete" | "none" }
  /** Nothing but to say why nothing is done. */
  | { readonly action: "say"; readonly reason: "InvalidLabel" | "AttachmentNotOurs" };

/** What Kuma's injector takes for true or false; each of them wants the object. */
const booleanWords: readonly string[] = ["enabled", "true", "yes", "disabled", "false", "no"];

/** Decides. */
export function decideAttachment(facts: AttachmentFacts): AttachmentDecision {
  const { label, attachment } = facts;
  if (facts.terminating) return { action: "none" };
  if (label === undefined) return { action: attachment === "ours" ? "delete" : "none" };
  if (!booleanWords.includes(label)) return { action: "say", reason: "InvalidLabel" };
  switch (attachment) {
    case undefined:
      return { action: "create" };
    case "reference":
      return { action: "adopt" };
    case "ours":
      return { action: "none" };
  }
  return { action: "say", reason: "AttachmentNotOurs" };
}
