/** This program's own pod, and the way to the API server as its account. */
import { KubernetesClient } from "../../src/kubernetes/client.ts";
import type { ConnectionState } from "../../src/kubernetes/connection_state.ts";
import { readRegularFile } from "../../src/linux/regular_file.ts";
import { serverOf } from "../settings/api_server.ts";
import type { Settings } from "../settings/declarations.ts";

/** Where this program runs. */
export interface OwnPod {
  readonly namespace: string;
  readonly name: string;
}

/** Returns this program's own pod, or `undefined` outside a cluster. */
export function ownPod(settings: Settings): OwnPod | undefined {
  const folder = settings.tokenFile.slice(0, settings.tokenFile.lastIndexOf("/"));
  const namespace = settings.podNamespace ||
    orEmpty(() => readText(`${folder}/namespace`).trim());
  const name = settings.podName || orEmpty(() => Deno.hostname());
  return namespace === "" || name === "" ? undefined : { namespace, name };
}

/**
 * Makes a client of the API server with this program's service account, whose token is read again
 * for each request.
 *
 * @param timeout Milliseconds for one request.
 * @param state Hears how each request ends.
 * @throws {LinuxError} when the certificate authority's file cannot be read, for example `ENOENT`.
 * @throws {UnusableFileError} when it is not a regular file, or too large.
 */
export function clientOf(
  settings: Settings,
  timeout: number,
  state?: ConnectionState,
): KubernetesClient {
  return new KubernetesClient({
    server: serverOf(settings),
    certificateAuthority: readText(settings.caFile),
    tokenFile: settings.tokenFile,
    insecureSkipTlsVerify: false,
  }, {
    requestTimeoutMilliseconds: timeout,
    ...(state === undefined ? {} : { state }),
  });
}

/**
 * Asks the API server for one pod, whatever it is: the way that the plugin's look-ups go. How it ends
 * is in the client's state.
 */
export async function probe(
  client: KubernetesClient,
  settings: Settings,
  signal: AbortSignal,
): Promise<void> {
  // Outside a cluster that pod need not exist: that there is none is an answer, too.
  const pod = ownPod(settings) ?? { namespace: "default", name: "kuma-cni" };
  try {
    await readOwnPod(client, pod, signal);
  } catch {
    // The client's state has it.
  }
}

/**
 * Gets this program's own pod as the API server has it.
 *
 * @throws {ApiError} when it cannot be had.
 */
export async function readOwnPod(
  client: KubernetesClient,
  pod: OwnPod,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const path = `/api/v1/namespaces/${encodeURIComponent(pod.namespace)}/pods/${
    encodeURIComponent(pod.name)
  }`;
  return await client.getJson(path, { signal, what: `own pod "${pod.namespace}/${pod.name}"` });
}

/**
 * The name of this node: the setting, else where this program's own pod runs, since the reference
 * manifest does not tell.
 *
 * @throws {Error} when neither tells.
 */
export async function nodeName(
  settings: Settings,
  client: KubernetesClient,
  signal: AbortSignal,
): Promise<string> {
  if (settings.nodeName !== "") return settings.nodeName;
  const pod = ownPod(settings);
  if (pod === undefined) throw new Error("Node's name is unknown: set NODE_NAME");
  const { spec } = await readOwnPod(client, pod, signal);
  const name = (spec as { nodeName?: unknown } | null | undefined)?.nodeName;
  if (typeof name !== "string" || name === "") {
    throw new Error(
      `Node's name is unknown: own pod "${pod.namespace}/${pod.name}" has no "spec.nodeName"; ` +
        "set NODE_NAME",
    );
  }
  return name;
}

/** Reads a file that is mounted into the container. */
export function readText(path: string): string {
  return new TextDecoder().decode(readRegularFile(path));
}

function orEmpty(work: () => string): string {
  try {
    return work();
  } catch {
    return "";
  }
}
