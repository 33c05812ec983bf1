/** The patches that add our taint to a node, or take it away, and touch nothing else. */
import type { JsonPatch } from "../../src/kubernetes/changes.ts";
import { type Node, type Taint, TAINTED_AT } from "./node.ts";

/** Key and effect: what makes a taint the one that we care for; its value is ignored. */
export type TaintName = Pick<Taint, "key" | "effect">;

const annotation = `/metadata/annotations/${
  TAINTED_AT.replaceAll("~", "~0").replaceAll("/", "~1")
}`;

/** Returns the node's taint of that key and effect. */
export function taintOf(node: Node, name: TaintName): Taint | undefined {
  return node.taints.find(({ key, effect }) => key === name.key && effect === name.effect);
}

/** Whether that taint is ours. */
export function isOurs(node: Node, name: TaintName): boolean {
  return node.taintedAt !== undefined && taintOf(node, name) !== undefined;
}

/** Adds the taint, and beside it since when. */
export function addingPatch(node: Node, name: TaintName, now: Date): JsonPatch[] {
  const taint = { key: name.key, effect: name.effect };
  return [
    ...unchanged(node),
    node.taints.length === 0
      ? { op: "add", path: "/spec/taints", value: [taint] }
      : { op: "add", path: "/spec/taints/-", value: taint },
    node.hasAnnotations
      ? { op: "add", path: annotation, value: now.toISOString() }
      : { op: "add", path: "/metadata/annotations", value: { [TAINTED_AT]: now.toISOString() } },
  ];
}

/** Takes the taint away, and what stands beside it. */
export function removingPatch(node: Node, name: TaintName): JsonPatch[] {
  const index = node.taints.findIndex(({ key, effect }) =>
    key === name.key && effect === name.effect
  );
  return [
    ...unchanged(node),
    { op: "remove", path: `/spec/taints/${index}` },
    ...(node.taintedAt === undefined ? [] : [{ op: "remove", path: annotation } as const]),
  ];
}

/**
 * Lets the patch fail when the node is another one, or its taints are not those that were seen. Other
 * changes, such as each heartbeat, are no reason to try again; only where there is no list of taints,
 * or no annotation, to compare with does the whole node have to be as it was.
 */
function unchanged(node: Node): JsonPatch[] {
  const isComparable = node.taints.length > 0 && node.hasAnnotations;
  return [
    { op: "test", path: "/metadata/uid", value: node.uid },
    isComparable
      ? { op: "test", path: "/spec/taints", value: node.taints }
      : { op: "test", path: "/metadata/resourceVersion", value: node.resourceVersion },
  ];
}
