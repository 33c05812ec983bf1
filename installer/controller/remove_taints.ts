/** Takes taints from all nodes: when the taint controller is switched off, and before it is uninstalled. */
import { type Change, isConflict } from "../../src/kubernetes/changes.ts";
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import { ApiError } from "../../src/kubernetes/errors.ts";
import { listAll } from "../../src/kubernetes/watch.ts";
import { type Node, nodePath, parseNode } from "./node.ts";
import { isOurs, removingPatch, type TaintName, taintOf } from "./taint_patch.ts";

/** Attempts for one node that others change at the same time. */
const attempts = 5;

/** Which taints, and how they are taken away. */
export interface Removal {
  readonly taint: TaintName;
  /** Only those with our annotation, or each of that key and effect. */
  readonly which: "ours" | "all";
  readonly change: (change: Change, what: string) => Promise<Record<string, unknown>>;
  readonly signal: AbortSignal;
}

/**
 * Takes the taints away.
 *
 * @returns The names of the nodes that had one.
 * @throws {ApiError} when the nodes cannot be listed, or one cannot be changed.
 */
export async function removeTaints(client: KubernetesClient, removal: Removal): Promise<string[]> {
  const { taint, which, signal } = removal;
  const { objects } = await listAll(client, { path: "/api/v1/nodes", parse: parseNode, signal });
  const found = objects.filter((node) =>
    taintOf(node, taint) !== undefined && (which === "all" || isOurs(node, taint))
  );
  for (const node of found) await removeFrom(client, node, removal);
  return found.map(({ name }) => name);
}

async function removeFrom(client: KubernetesClient, first: Node, removal: Removal): Promise<void> {
  const { taint, change, signal } = removal;
  const path = nodePath(first.name);
  const what = `node "${first.name}"`;
  let node = first;
  for (let attempt = 1;; attempt++) {
    try {
      await change({ verb: "patch", path, operations: removingPatch(node, taint) }, what);
      return;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return;
      if (!isConflict(error) || attempt === attempts) throw error;
      node = parseNode(await client.getJson(path, { what, signal }));
      if (taintOf(node, taint) === undefined) return;
    }
  }
}
