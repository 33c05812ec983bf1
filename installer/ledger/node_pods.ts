/** The node's pods, asked for once: commands do that, and the agent follows them instead. */
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import { parsePod } from "../../src/kubernetes/pod.ts";
import { listAll } from "../../src/kubernetes/watch.ts";
import { type NodePod, podLifeOf } from "./pod_life.ts";

/** Reads a pod as the API server has it. */
export function parseNodePod(json: unknown): NodePod {
  return { pod: parsePod(json), life: podLifeOf(json) };
}

/**
 * Lists the pods of a node.
 *
 * @throws {ApiError} when the API server does not tell.
 */
export async function listNodePods(
  client: KubernetesClient,
  node: string,
  signal: AbortSignal,
): Promise<readonly NodePod[]> {
  const fieldSelector = `spec.nodeName=${node}`;
  const path = "/api/v1/pods";
  const { objects } = await listAll(client, { path, fieldSelector, parse: parseNodePod, signal });
  return objects;
}
