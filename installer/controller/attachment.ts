/** Namespaces and NetworkAttachmentDefinitions, reduced, and the patches of the latter. */
import type { JsonPatch } from "../../src/kubernetes/changes.ts";
import { isRecord } from "../../src/json/record.ts";
import type { AttachmentOwner } from "./attachment_decision.ts";
import { textsOf } from "./node.ts";

/** Name of the objects: Multus looks up the configuration of that name on the node's disk. */
export const ATTACHMENT = "kuma-cni";

/** Plural and group of their kind. */
export const ATTACHMENT_RESOURCE = "network-attachment-definitions";
export const ATTACHMENT_GROUP = "k8s.cni.cncf.io";

const injectionLabel = "kuma.io/sidecar-injection";
const ownerLabel = "app.kubernetes.io/managed-by";
const owner = "kuma-cni-controller";

/** A namespace, reduced; its metadata are enough. */
export interface Namespace {
  readonly name: string;
  readonly uid: string;
  readonly terminating: boolean;
  /** Value of the label that asks for injection. */
  readonly label: string | undefined;
}

/** A NetworkAttachmentDefinition, reduced. */
export interface Attachment {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly owner: AttachmentOwner;
  readonly hasLabels: boolean;
}

/**
 * Parses a v1 Namespace, or its metadata.
 *
 * @throws {TypeError} when it is not a namespace.
 */
export function parseNamespace(json: unknown): Namespace {
  const { metadata, name, uid } = metadataOf(json, "a namespace");
  return {
    name,
    uid,
    terminating: metadata.deletionTimestamp !== undefined,
    label: textsOf(metadata.labels)[injectionLabel],
  };
}

/**
 * Parses a NetworkAttachmentDefinition.
 *
 * @throws {TypeError} when it is not one.
 */
export function parseAttachment(json: unknown): Attachment {
  const { metadata, name, uid } = metadataOf(json, "a NetworkAttachmentDefinition");
  const { namespace, resourceVersion } = metadata;
  if (typeof namespace !== "string" || typeof resourceVersion !== "string") {
    throw new TypeError("Not a NetworkAttachmentDefinition: namespace or version is missing");
  }
  const labels = textsOf(metadata.labels);
  const spec = isRecord(json) && isRecord(json.spec) ? json.spec : {};
  const isEmpty = (spec.config ?? "") === "";
  const isOurs = labels[ownerLabel] === owner;
  const isPlain = Object.keys(labels).length === 0 && metadata.ownerReferences === undefined;
  return {
    namespace,
    name,
    uid,
    resourceVersion,
    owner: isOurs
      ? isEmpty ? "ours" : "ours-changed"
      : isPlain && isEmpty
      ? "reference"
      : "foreign",
    hasLabels: isRecord(metadata.labels),
  };
}

/** The object that is made: the reference's, with our label. */
export function newAttachment(namespace: string): Record<string, unknown> {
  return {
    apiVersion: `${ATTACHMENT_GROUP}/v1`,
    kind: "NetworkAttachmentDefinition",
    metadata: { name: ATTACHMENT, namespace, labels: { [ownerLabel]: owner } },
    spec: { config: "" },
  };
}

/** Gives the object our label, if it is still as it was seen. */
export function adoptingPatch({ resourceVersion, hasLabels }: Attachment): JsonPatch[] {
  return [
    { op: "test", path: "/metadata/resourceVersion", value: resourceVersion },
    hasLabels
      ? { op: "add", path: `/metadata/labels/${ownerLabel.replace("/", "~1")}`, value: owner }
      : { op: "add", path: "/metadata/labels", value: { [ownerLabel]: owner } },
  ];
}

function metadataOf(
  json: unknown,
  what: string,
): { metadata: Record<string, unknown>; name: string; uid: string } {
  const metadata = isRecord(json) && isRecord(json.metadata) ? json.metadata : {};
  const { name, uid } = metadata;
  if (typeof name === "string" && typeof uid === "string") return { metadata, name, uid };
  throw new TypeError(`Not ${what}: "metadata" has no name or uid`);
}
