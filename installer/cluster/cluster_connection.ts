/** The way to the API server of a program that runs long, in a pod. */
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import type { ConnectionState } from "../../src/kubernetes/connection_state.ts";
import type { Settings } from "../settings/declarations.ts";
import { clientOf, readText } from "./own_pod.ts";

/** Time for one request to the API server, in milliseconds. */
const requestMilliseconds = 10_000;

/** Keeps a client of the API server, and makes another when the cluster's authority was replaced. */
export class ClusterConnection implements Disposable {
  #client: { readonly client: KubernetesClient; readonly authority: string } | undefined;

  /** @param state Hears how each request ends. */
  constructor(private readonly settings: Settings, private readonly state?: ConnectionState) {}

  /**
   * Returns the client; it reads the token again for each request.
   *
   * @throws {LinuxError} when the certificate authority's file cannot be read, for example `ENOENT`.
   */
  client(): KubernetesClient {
    const authority = readText(this.settings.caFile);
    if (this.#client?.authority !== authority) {
      this.close();
      const client = clientOf(this.settings, requestMilliseconds, this.state);
      this.#client = { client, authority };
    }
    return this.#client!.client;
  }

  /** Closes the connections. */
  close(): void {
    this.#client?.client.close();
    this.#client = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
