/** The sandboxes that a machine's containerd has. */
import { CriClient } from "../../support/cri_client.ts";
import type { Machine } from "./machine.ts";

const READY = 0;

/** Asks a machine's containerd over the Container Runtime Interface. */
export class Sandboxes implements Disposable {
  readonly #client: CriClient;

  constructor(private readonly machine: Machine) {
    this.#client = new CriClient(`${machine.folder}/containerd.sock`);
  }

  /** Id of a pod's ready sandbox; `undefined` without one. */
  async idOf(namespace: string, name: string): Promise<string | undefined> {
    const { items } = await this.#client.call("ListPodSandbox", {}) as {
      items: { id: string; state: number; metadata: { namespace: string; name: string } }[];
    };
    return items.find(({ state, metadata }) =>
      state === READY && metadata.namespace === namespace && metadata.name === name
    )?.id;
  }

  /** Path of a pod's network namespace, as seen from here. */
  async networkNamespaceOf(namespace: string, name: string): Promise<string> {
    const id = await this.idOf(namespace, name);
    if (id === undefined) throw new Error(`Pod "${namespace}/${name}" has no sandbox`);
    const { info } = await this.#client.call("PodSandboxStatus", {
      pod_sandbox_id: id,
      verbose: true,
    }) as { info: { info: string } };
    const { linux } = JSON.parse(info.info).runtimeSpec as {
      linux: { namespaces: { type: string; path?: string }[] };
    };
    const path = linux.namespaces.find(({ type }) => type === "network")?.path;
    if (path === undefined) throw new Error(`Sandbox "${id}" has no network namespace`);
    // The link /var/run leads from the root of whoever follows it.
    return this.machine.path(path.replace(/^\/var\/run\//, "/run/"));
  }

  /** Stops a sandbox, as when its first container dies: kubelet makes another. */
  async stop(id: string): Promise<void> {
    await this.#client.call("StopPodSandbox", { pod_sandbox_id: id });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
