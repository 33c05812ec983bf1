/** The sandboxes that a machine's containerd has. */
import { CriClient } from "../../support/cri_client.ts";
import { networkOf, readySandboxOf } from "../../support/cri_sandboxes.ts";
import type { Machine } from "./machine.ts";

/** Asks a machine's containerd over the Container Runtime Interface. */
export class Sandboxes implements Disposable {
  readonly #client: CriClient;

  constructor(private readonly machine: Machine) {
    this.#client = new CriClient(`${machine.folder}/containerd.sock`);
  }

  /** Id of a pod's ready sandbox; `undefined` without one. */
  async idOf(namespace: string, name: string): Promise<string | undefined> {
    return await readySandboxOf(this.#client, namespace, name);
  }

  /** Path of a pod's network namespace, as seen from here. */
  async networkNamespaceOf(namespace: string, name: string): Promise<string> {
    const id = await this.idOf(namespace, name);
    if (id === undefined) throw new Error(`Pod "${namespace}/${name}" has no sandbox`);
    const { networkNamespace } = await networkOf(this.#client, id);
    // The link /var/run leads from the root of whoever follows it.
    return this.machine.path(networkNamespace.replace(/^\/var\/run\//, "/run/"));
  }

  /** Stops a sandbox, as when its first container dies: kubelet makes another. */
  async stop(id: string): Promise<void> {
    await this.#client.call("StopPodSandbox", { pod_sandbox_id: id });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
