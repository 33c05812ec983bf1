/** The API server as a source of pods, by way of a kubeconfig. */
import { KubernetesClient } from "../kubernetes/client.ts";
import { type ClusterAccess, loadKubeconfig } from "../kubernetes/kubeconfig.ts";
import type { Pod } from "../kubernetes/pod.ts";
import type { PodReference, PodSource } from "./source.ts";

/** Asks the API server that a kubeconfig names; reads the file with the first question. */
export class ApiPodSource implements PodSource, Disposable {
  readonly name = "API server";
  readonly #path: string;
  readonly #requestTimeoutMilliseconds: number;
  #access: ClusterAccess | undefined;
  #client: KubernetesClient | undefined;

  /**
   * @param path Absolute path of the kubeconfig.
   * @param requestTimeoutMilliseconds Bound of one request.
   */
  constructor(path: string, requestTimeoutMilliseconds = 10_000) {
    this.#path = path;
    this.#requestTimeoutMilliseconds = requestTimeoutMilliseconds;
  }

  /**
   * Gets a pod.
   *
   * @throws {ApiError} as {@link KubernetesClient.getPod}.
   * @throws {KubeconfigError} when the kubeconfig or a file that it names cannot be used.
   */
  async get(reference: PodReference, signal: AbortSignal): Promise<Pod> {
    if (this.#client === undefined) this.#open(loadKubeconfig(this.#path));
    return await this.#client!.getPod(reference, signal);
  }

  /**
   * Reads the kubeconfig again.
   *
   * @returns Whether it says something else than before. The token's file does not count here: it
   * is read for every request.
   * @throws {KubeconfigError} when it cannot be used any more.
   */
  renew(): boolean {
    const access = loadKubeconfig(this.#path);
    if (JSON.stringify(access) === JSON.stringify(this.#access)) return false;
    this.close();
    this.#open(access);
    return true;
  }

  /** Closes the connections. */
  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(access: ClusterAccess): void {
    this.#client = new KubernetesClient(access, {
      requestTimeoutMilliseconds: this.#requestTimeoutMilliseconds,
      direct: true,
    });
    this.#access = access;
  }
}
