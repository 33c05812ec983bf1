/** The sandboxes and containers that a machine's containerd has, also while the API server is away. */
import { CriClient } from "../../support/cri_client.ts";
import { networkOf, readySandboxOf } from "../../support/cri_sandboxes.ts";
import type { Output } from "../../support/programs.ts";
import { isCaptured } from "../../support/sandbox_probe.ts";
import type { Machine } from "./machine.ts";

const RUNNING = 1;

/** A container that runs. */
export interface RunningContainer {
  readonly id: string;
  readonly sandbox: string;
}

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

  /** Tells whether the connections of a pod's application go to its sidecar, which must be light. */
  async isCaptured(namespace: string, name: string): Promise<boolean> {
    return isCaptured(await this.networkNamespaceOf(namespace, name));
  }

  /** First address of a sandbox. */
  async addressOf(id: string): Promise<string> {
    return (await networkOf(this.#client, id)).ip;
  }

  /** Stops a sandbox, as when its first container dies: kubelet makes another. */
  async stop(id: string): Promise<void> {
    await this.#client.call("StopPodSandbox", { pod_sandbox_id: id });
  }

  /** What keeps the network from being ready, plugins' answers to STATUS among it; empty when it is. */
  async networkTrouble(): Promise<string> {
    const { status } = await this.#client.call("Status", {}) as {
      status: { conditions: { type: string; status: boolean; message: string }[] };
    };
    const found = status.conditions.find(({ type }) => type === "NetworkReady");
    if (found === undefined) throw new Error("The runtime does not tell about its network");
    return found.status ? "" : found.message;
  }

  /** The only container of this name that runs in a namespace; `undefined` while there is none. */
  async container(namespace: string, name: string): Promise<RunningContainer | undefined> {
    const { containers } = await this.#client.call("ListContainers", {}) as {
      containers: {
        id: string;
        pod_sandbox_id: string;
        state: number;
        labels: Record<string, string>;
      }[];
    };
    const found = containers.filter(({ state, labels }) =>
      state === RUNNING && labels["io.kubernetes.pod.namespace"] === namespace &&
      labels["io.kubernetes.container.name"] === name
    );
    if (found.length > 1) throw new Error(`${found.length} containers "${name}" run`);
    return found[0] === undefined
      ? undefined
      : { id: found[0].id, sandbox: found[0].pod_sandbox_id };
  }

  /** Runs a program in a container. */
  async exec(container: string, command: readonly string[]): Promise<Output> {
    const { exit_code: code, stdout, stderr } = await this.#client.call("ExecSync", {
      container_id: container,
      cmd: command,
      timeout: 20,
    }) as { exit_code: number; stdout: Uint8Array; stderr: Uint8Array };
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  }

  /** Sends a signal to the first process of a container. */
  async signal(container: string, signal: "KILL" | "STOP" | "CONT"): Promise<void> {
    const { info } = await this.#client.call("ContainerStatus", {
      container_id: container,
      verbose: true,
    }) as { info: { info: string } };
    const { pid } = JSON.parse(info.info) as { pid: number };
    await this.machine.must("kill", `-${signal}`, String(pid));
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
