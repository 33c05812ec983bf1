/** What a container runtime tells about its pod sandboxes. */
import type { CriClient } from "./cri_client.ts";

const READY = 0;

/** A sandbox in the runtime's list. */
export interface ListedSandbox {
  readonly id: string;
  readonly state: number;
  readonly metadata: { readonly namespace: string; readonly name: string };
}

/** All sandboxes, ready or not. */
export async function sandboxesOf(client: CriClient): Promise<ListedSandbox[]> {
  const { items } = await client.call("ListPodSandbox", {}) as { items: ListedSandbox[] };
  return items;
}

/** Id of a pod's ready sandbox; `undefined` without one. */
export async function readySandboxOf(
  client: CriClient,
  namespace: string,
  name: string,
): Promise<string | undefined> {
  return (await sandboxesOf(client)).find(({ state, metadata }) =>
    state === READY && metadata.namespace === namespace && metadata.name === name
  )?.id;
}

/** Addresses of a sandbox, and the path of its network namespace as the runtime has it. */
export async function networkOf(
  client: CriClient,
  id: string,
): Promise<{ readonly networkNamespace: string; readonly ip: string; readonly ips: string[] }> {
  const { status, info } = await client.call("PodSandboxStatus", {
    pod_sandbox_id: id,
    verbose: true,
  }) as {
    status: { network: { ip: string; additional_ips: { ip: string }[] } };
    info: { info: string };
  };
  const { linux } = JSON.parse(info.info).runtimeSpec as {
    linux: { namespaces: { type: string; path?: string }[] };
  };
  const path = linux.namespaces.find(({ type }) => type === "network")?.path;
  if (path === undefined) throw new Error(`Sandbox "${id}" has no network namespace`);
  const { ip, additional_ips } = status.network;
  return { networkNamespace: path, ip, ips: [ip, ...additional_ips.map(({ ip }) => ip)] };
}
