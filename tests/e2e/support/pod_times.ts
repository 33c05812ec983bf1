/** When pods are created and when they are ready, as one watch of the API server tells. */
import type { Cluster } from "./cluster.ts";
import { pause } from "./machine.ts";

const columns = '{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}';

/** Follows the pods of a namespace. */
export class PodTimes implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #created = new Map<string, number>();
  readonly #ready = new Map<string, number>();
  readonly #reading: Promise<void>;

  constructor(private readonly cluster: Cluster, namespace: string) {
    const args = ["-n", namespace, "get", "pods", "--watch", `-o=jsonpath=${columns}`];
    this.#child = cluster.spawnKubectl(args);
    this.#reading = this.#read();
  }

  /** Waits until a pod is ready. @returns Milliseconds since its creation. */
  async untilReady(name: string): Promise<number> {
    const deadline = performance.now() + 120_000;
    while (!this.#ready.has(name)) {
      if (performance.now() > deadline) throw new Error(`Pod "${name}" does not get ready`);
      await pause(20);
    }
    return this.#ready.get(name)! - this.#created.get(name)!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster.first.end(this.#child);
    await this.#reading;
  }

  async #read(): Promise<void> {
    const text = this.#child.stdout.pipeThrough(new TextDecoderStream());
    let rest = "";
    for await (const part of text) {
      const now = performance.now();
      const lines = (rest + part).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const [name = "", isReady] = line.split(" ");
        if (!this.#created.has(name)) this.#created.set(name, now);
        if (isReady === "True" && !this.#ready.has(name)) this.#ready.set(name, now);
      }
    }
  }
}
