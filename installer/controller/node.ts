/** The part of a Kubernetes Node that decides about its taint. */
import { isRecord } from "../../src/json/record.ts";

/** A taint as the API has it; other fields than these three are kept as they are. */
export interface Taint {
  readonly key: string;
  readonly effect: string;
  readonly value?: string;
  readonly [field: string]: unknown;
}

/** A node, reduced. */
export interface Node {
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** When it was registered, in milliseconds since the epoch. */
  readonly created: number;
  /** Differs after a reboot, which can take the plugin from the host. */
  readonly bootId: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly Taint[];
  /** Whether `metadata.annotations` is there, which a patch must know. */
  readonly hasAnnotations: boolean;
  /** Value of {@linkcode TAINTED_AT}: the taint is ours, and since when. */
  readonly taintedAt: string | undefined;
}

/** Annotation beside our taint: the reference's, which has none, is left to whoever put it there. */
export const TAINTED_AT = "kuma.io/cni-tainted-at";

/**
 * Parses a v1 Node, whole or as an item of a list.
 *
 * @throws {TypeError} when it is not a node.
 */
export function parseNode(json: unknown): Node {
  const node = isRecord(json) ? json : {};
  const metadata = isRecord(node.metadata) ? node.metadata : {};
  const { name, uid, resourceVersion } = metadata;
  if (typeof name !== "string" || typeof uid !== "string" || typeof resourceVersion !== "string") {
    throw new TypeError('Not a node: "metadata" has no name, uid or resourceVersion');
  }
  const spec = isRecord(node.spec) ? node.spec : {};
  const status = isRecord(node.status) ? node.status : {};
  const info = isRecord(status.nodeInfo) ? status.nodeInfo : {};
  const annotations = isRecord(metadata.annotations) ? metadata.annotations : undefined;
  const taintedAt = annotations?.[TAINTED_AT];
  return {
    name,
    uid,
    resourceVersion,
    created: Date.parse(String(metadata.creationTimestamp)) || 0,
    bootId: typeof info.bootID === "string" ? info.bootID : "",
    labels: textsOf(metadata.labels),
    taints: Array.isArray(spec.taints) ? spec.taints.filter(isTaint) : [],
    hasAnnotations: annotations !== undefined,
    taintedAt: typeof taintedAt === "string" ? taintedAt : undefined,
  };
}

/** Path of a node in the API. */
export function nodePath(name: string): string {
  return `/api/v1/nodes/${encodeURIComponent(name)}`;
}

/** Whether two states of a node are the same to those who decide: most updates are heartbeats. */
export function isSameToUs(a: Node | undefined, b: Node | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.uid === b.uid && a.bootId === b.bootId && a.taintedAt === b.taintedAt &&
    JSON.stringify([a.taints, a.labels]) === JSON.stringify([b.taints, b.labels]);
}

/** The mapping's texts, without a prototype. */
export function textsOf(value: unknown): Record<string, string> {
  const texts: Record<string, string> = Object.create(null);
  for (const [name, text] of Object.entries(isRecord(value) ? value : {})) {
    if (typeof text === "string") texts[name] = text;
  }
  return texts;
}

function isTaint(value: unknown): value is Taint {
  return isRecord(value) && typeof value.key === "string" && typeof value.effect === "string";
}
