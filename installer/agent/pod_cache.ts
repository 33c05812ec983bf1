/**
 * The pods of this node, as a watch keeps them: so that the plugin gets its pod within a
 * millisecond, and also while the API server is away or the host's token has expired.
 */
import type { PodRequest } from "../../src/agent/messages.ts";
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import { ApiError } from "../../src/kubernetes/errors.ts";
import { parsePod, type Pod } from "../../src/kubernetes/pod.ts";
import { sleep } from "../../src/kubernetes/sleep.ts";
import { watch } from "../../src/kubernetes/watch.ts";
import { isPodOfUid } from "../../src/pod/lookup.ts";
import { errorOf } from "../../src/text/message_of.ts";
import { type NodePod, podLifeOf } from "../ledger/pod_life.ts";
import type { PodProvider } from "./socket_server.ts";

/** What the cache tells its owner. */
export interface PodCacheObserver {
  /** The watch runs; the cache is complete. */
  synchronized?(pods: number): void;
  /** A pod has come, or has changed. */
  changed?(): void;
  /** The watch was interrupted and will be taken up again. */
  interrupted?(error: Error, retryMilliseconds: number): void;
}

/** Parts of a {@linkcode PodCache} that have defaults. */
export interface PodCacheOptions {
  readonly observer?: PodCacheObserver;
  /** Milliseconds until a watch that was forbidden is tried again; 10 minutes. */
  readonly forbiddenRetryMilliseconds?: number;
  /** First wait after another failure, doubling up to 30 s; 250 ms. */
  readonly firstRetryMilliseconds?: number;
}

/** Pods of one page: whole pods are some 10 KiB each and this process must stay small. */
const PAGE_SIZE = 20;

/** Annotations that decide about a pod's traffic, or about which pod it is. */
const DECIDING = /(^|\.)kuma\.io\/|^kubernetes\.io\/config\./;

/** Most characters of such annotations in a pod that is kept; real ones have some 2,000. */
const MOST_KEPT = 16_384;

/** Follows the pods of one node. */
export class PodCache implements PodProvider {
  readonly #pods = new Map<string, NodePod>();
  readonly #stop = new AbortController();
  #live = false;
  #failures = 0;
  #lastWord: number | undefined;

  /**
   * @param client Gives the client to ask with: its token is always fresh, and when the cluster's
   * certificate authority has changed it is another client. It stays the caller's.
   * @param nodeName Finds out the name of this node; may fail and is asked again then.
   */
  constructor(
    private readonly client: () => KubernetesClient,
    private readonly nodeName: (signal: AbortSignal) => Promise<string>,
    private readonly options: PodCacheOptions = {},
  ) {}

  /** Number of pods that are known. */
  get size(): number {
    return this.#pods.size;
  }

  /** All pods with their lives; `undefined` while some may be missing. */
  all(): readonly NodePod[] | undefined {
    return this.#live ? [...this.#pods.values()] : undefined;
  }

  /** Whether the watch runs, so that what it does not have does not exist. */
  get live(): boolean {
    return this.#live;
  }

  /** Seconds since the watch last ran, 0 while it does; `undefined` when it never did. */
  get ageSeconds(): number | undefined {
    if (this.#live) return 0;
    return this.#lastWord === undefined ? undefined : (performance.now() - this.#lastWord) / 1000;
  }

  /** Follows the pods until {@linkcode stop}; never rejects. */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let error: Error;
      try {
        const node = await this.nodeName(signal);
        error = await this.#follow(node);
      } catch (thrown) {
        error = errorOf(thrown);
      }
      if (signal.aborted) return;
      const forbidden = error instanceof ApiError && error.status === 403;
      const first = this.options.firstRetryMilliseconds ?? 250;
      // Under the reference manifest every node lacks the right: 2,000 nodes must not ask all day.
      const wait = forbidden
        ? this.options.forbiddenRetryMilliseconds ?? 600_000
        : Math.min(30_000, first * 2 ** Math.min(this.#failures++, 10));
      this.#interrupted(error, wait);
      await sleep(wait * (0.75 + Math.random() / 4), signal);
    }
  }

  /** Ends {@linkcode run}. */
  stop(): void {
    this.#stop.abort();
  }

  /**
   * The pod, when its UID says that it is the one that is asked for: a watch can lag behind, and the
   * pod of that name may be one that was deleted.
   */
  cached(request: PodRequest): Pod | undefined {
    if (request.uid === undefined) return undefined;
    const pod = this.#pods.get(key(request))?.pod;
    return pod !== undefined && isPodOfUid(pod, request.uid) ? pod : undefined;
  }

  /**
   * Asks the API server; while that cannot be reached, the known pod of that UID is as good.
   *
   * @throws {ApiError} when there is no pod to be had.
   */
  async fetch(request: PodRequest, signal: AbortSignal): Promise<Pod> {
    try {
      return await this.client().getPod(request, signal);
    } catch (error) {
      const known = this.cached(request);
      const gone = error instanceof ApiError && error.status === 404;
      if (known === undefined || gone) throw error;
      return known;
    }
  }

  /** Follows one node's pods; returns only on an error that asking again soon cannot heal. */
  async #follow(node: string): Promise<Error> {
    const ended = new AbortController();
    const end = () => ended.abort();
    this.#stop.signal.addEventListener("abort", end, { once: true });
    try {
      const notices = watch(this.client(), {
        path: "/api/v1/pods",
        fieldSelector: `spec.nodeName=${node}`,
        parse: (json): NodePod => ({
          pod: withDecidingAnnotations(parsePod(json)),
          life: podLifeOf(json),
        }),
        signal: ended.signal,
        pageSize: PAGE_SIZE,
        ...(this.options.firstRetryMilliseconds === undefined
          ? {}
          : { firstRetryMilliseconds: this.options.firstRetryMilliseconds }),
      });
      for await (const notice of notices) {
        switch (notice.type) {
          case "snapshot":
            this.#pods.clear();
            for (const pod of notice.objects) this.#keep(pod);
            this.#synchronized();
            break;
          case "put":
            this.#keep(notice.object);
            this.#synchronized();
            break;
          case "deleted": {
            const { pod } = notice.object;
            if (this.#pods.get(key(pod))?.pod.uid === pod.uid) this.#pods.delete(key(pod));
            this.#synchronized();
            break;
          }
          case "resumed":
            this.#synchronized();
            break;
          case "interrupted":
            // Rights may take long to come, and a new authority takes a new client.
            if (
              notice.error instanceof ApiError &&
              (notice.error.status === 403 || notice.error.kind === "tls")
            ) return notice.error;
            this.#interrupted(notice.error, notice.retryMilliseconds);
            break;
        }
      }
      return new Error("Watch of this node's pods has ended");
    } finally {
      this.#stop.signal.removeEventListener("abort", end);
      ended.abort();
    }
  }

  #keep(object: NodePod): void {
    const { pod } = object;
    if (annotationLength(pod) <= MOST_KEPT) this.#pods.set(key(pod), object);
    else this.#pods.delete(key(pod));
    this.options.observer?.changed?.();
  }

  #synchronized(): void {
    if (!this.#live) this.options.observer?.synchronized?.(this.#pods.size);
    this.#live = true;
    this.#failures = 0;
  }

  #interrupted(error: Error, retryMilliseconds: number): void {
    if (this.#live) this.#lastWord = performance.now();
    this.#live = false;
    this.options.observer?.interrupted?.(error, retryMilliseconds);
  }
}

/**
 * Leaves out what decides nothing: anybody who may create pods can give each 256 KiB of annotations,
 * and the reference manifest leaves this process 100 MiB.
 */
function withDecidingAnnotations(pod: Pod): Pod {
  const annotations: Record<string, string> = Object.create(null);
  for (const [name, value] of Object.entries(pod.annotations)) {
    if (DECIDING.test(name)) annotations[name] = value;
  }
  return { ...pod, annotations };
}

function annotationLength({ annotations }: Pod): number {
  return Object.entries(annotations).reduce(
    (sum, [name, value]) => sum + name.length + value.length,
    0,
  );
}

function key(pod: { readonly namespace: string; readonly name: string }): string {
  return `${pod.namespace}/${pod.name}`;
}
