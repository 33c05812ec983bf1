/**
 * A node as the plugin sees it: an API server that knows some pods, a kubeconfig for it, and a
 * container runtime that calls the compiled plugin.
 */
import { ApiServer } from "./api_server.ts";
import type { PodObject } from "./pods.ts";
import { callPlugin, type PluginAnswer, type PluginCall, type PodReference } from "./runtime.ts";

/** Choices for a call; the rest comes from the cluster. */
export interface ClusterCall {
  readonly containerId: string;
  readonly netns: string;
  readonly prevResult?: unknown;
  /** Added to the plugin's entry of the configuration list. */
  readonly network?: Readonly<Record<string, unknown>>;
}

/** API server, kubeconfig and runtime; dispose of it to remove them. */
export class Cluster implements AsyncDisposable {
  private constructor(
    /** The plugin's program file. */
    readonly plugin: string,
    readonly api: ApiServer,
    readonly directory: string,
  ) {}

  /**
   * Starts the API server and writes the kubeconfig.
   *
   * @param plugin path of the compiled plugin
   */
  static async start(plugin: string, pods: readonly PodObject[]): Promise<Cluster> {
    const api = await ApiServer.start({ objects: pods });
    const directory = await Deno.makeTempDir({ prefix: "kuma-cluster-" });
    const cluster = new Cluster(plugin, api, directory);
    await api.writeKubeconfig(cluster.kubeconfig);
    return cluster;
  }

  /** Path of the kubeconfig, with the name that the installer gives it. */
  get kubeconfig(): string {
    return `${this.directory}/ZZZ-kuma-cni-kubeconfig`;
  }

  /** The plugin's entry of a configuration list, as the Helm chart's installer writes it. */
  get network(): Record<string, unknown> {
    return {
      cniVersion: "0.4.0",
      kubernetes: {
        cni_bin_dir: "/opt/cni/bin",
        exclude_namespaces: ["kuma-system", "kube-system"],
        kubeconfig: this.kubeconfig,
      },
      log_level: "debug",
      name: "k8s-pod-network",
      type: "kuma-cni",
    };
  }

  /** Calls the plugin for a pod, as the runtime does. */
  async call(
    command: PluginCall["command"],
    pod: PodObject,
    call: ClusterCall,
  ): Promise<PluginAnswer> {
    return await callPlugin(this.plugin, {
      command,
      containerId: call.containerId,
      netns: call.netns,
      pod: referenceOf(pod),
      network: { ...this.network, ...call.network },
      ...("prevResult" in call ? { prevResult: call.prevResult } : {}),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.api.close();
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** What a runtime knows of a pod. */
export function referenceOf({ metadata }: PodObject): PodReference {
  return {
    namespace: metadata.namespace ?? "default",
    name: metadata.name,
    uid: metadata.uid ?? "",
  };
}
