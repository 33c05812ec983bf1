/** The part of the running installer that serves plugin calls, probes and Prometheus. */
import type { FinishRequest } from "../../src/agent/messages.ts";
import { ConnectionState } from "../../src/kubernetes/connection_state.ts";
import { messageOf } from "../../src/log/message_of.ts";
import { writeToStderr } from "../../src/log/stderr.ts";
import { ClusterConnection } from "../cluster/cluster_connection.ts";
import { nodeName } from "../cluster/own_pod.ts";
import type { Observer, Service, ServiceContext } from "../loop/service.ts";
import type { Settings } from "../settings/declarations.ts";
import { AgentMetrics } from "./agent_metrics.ts";
import { serveHealth } from "./health.ts";
import { MetricsRegistry } from "./metrics.ts";
import { PodCache } from "./pod_cache.ts";
import { SocketServer } from "./socket_server.ts";
import { WatchLog } from "./watch_log.ts";

/** Serves the agent's socket, and health and metrics when a port is set. */
export class AgentService implements Service {
  readonly metrics = new AgentMetrics(new MetricsRegistry());
  readonly observer: Observer;
  /** How the requests to the API server go: the watch's, and those for single pods. */
  readonly apiState = new ConnectionState();
  #context: ServiceContext | undefined;
  readonly #connection: ClusterConnection;
  #cache: PodCache | undefined;
  #socket: SocketServer | undefined;
  #http: Deno.HttpServer | undefined;
  #lastSocketTrouble = "";

  constructor(private readonly settings: Settings) {
    this.#connection = new ClusterConnection(settings, this.apiState);
    const { metrics } = this;
    this.observer = {
      installed: () => metrics.installs.increment(),
      healed: (cause, milliseconds) => {
        metrics.heals.increment({ cause });
        metrics.healSeconds.observe(milliseconds / 1000);
      },
      conflict: () => metrics.conflicts.increment(),
    };
  }

  start(context: ServiceContext): void {
    this.#context = context;
    const { registry } = this.metrics;
    registry.gauge(
      "kuma_cni_ready",
      "1 while pods that start get their rules",
      () => context.state().ready ? 1 : 0,
    );
    registry.gauge(
      "kuma_cni_token_refresh_timestamp_seconds",
      "When the kubeconfig on the host last got a fresh service account token",
      () => writtenAt(context.paths.kubeconfig),
    );
    registry.gauge(
      "kuma_cni_agent_cached_pods",
      "Pods of this node that are known",
      () => this.#cache?.size ?? 0,
    );
    registry.gauge(
      "kuma_cni_agent_cache_age_seconds",
      "Seconds since the watch on this node's pods last ran, 0 while it does",
      () => this.#cache?.ageSeconds,
    );
    registry.gauge(
      "process_resident_memory_bytes",
      "Resident memory size in bytes",
      () => Deno.memoryUsage().rss,
    );
    this.#serveHealth(context);
  }

  /** Serves the socket again if anything has happened to it; its folder may appear late. */
  tick(): void {
    const context = this.#context;
    if (context === undefined) return;
    try {
      this.#startCache(context);
      this.#socket ??= new SocketServer(
        `${context.paths.stateDir}/agent.sock`,
        {
          cached: (request) => this.#cache?.cached(request),
          fetch: (request, signal) => {
            if (this.#cache === undefined) throw new Error("Agent cannot reach the API server yet");
            return this.#cache.fetch(request, signal);
          },
        },
        {
          finished: (request) => this.#finished(request),
          podAnswered: (source) => this.metrics.podRequests.increment({ source }),
          failed: (cause, error) => {
            this.metrics.socketErrors.increment({ cause });
            context.log.debug("Connection to the agent's socket was dropped", {
              cause,
              error: messageOf(error),
            });
          },
        },
      );
      this.#socket.ensureServing();
      this.#lastSocketTrouble = "";
    } catch (error) {
      // The plugin helps itself meanwhile; said once, since this comes back every tick.
      const message = messageOf(error);
      if (message !== this.#lastSocketTrouble) {
        context.log.warn("Agent's socket is not served", { reason: message });
      }
      this.#lastSocketTrouble = message;
    }
  }

  async stop(): Promise<void> {
    this.#cache?.stop();
    this.#socket?.close();
    this.#connection.close();
    const http = this.#http;
    this.#http = undefined;
    await http?.shutdown();
  }

  #finished(request: FinishRequest): void {
    for (const record of request.records) writeToStderr(record);
    if (request.outcome !== undefined) this.metrics.recordOutcome(request.outcome);
  }

  #startCache(context: ServiceContext): void {
    if (this.#cache !== undefined) return;
    const connect = () => this.#connection.client();
    const log = new WatchLog(context.log);
    const cache = new PodCache(connect, (signal) => nodeName(this.settings, connect(), signal), {
      observer: {
        synchronized: (pods) => log.synchronized(pods),
        interrupted: (error, retryMilliseconds) => {
          this.metrics.watchRestarts.increment();
          log.interrupted(error, retryMilliseconds);
        },
      },
    });
    this.#cache = cache;
    void cache.run();
  }

  #serveHealth(context: ServiceContext): void {
    const { healthPort: port, healthAddress: hostname } = this.settings;
    if (port === 0) return;
    try {
      this.#http = serveHealth({ hostname, port }, {
        readiness: () => context.state(),
        liveness: () => context.liveness(),
        metrics: () => this.metrics.registry.expose(),
      });
      context.log.info("Health and metrics are served", { address: hostname, port });
    } catch (error) {
      context.log.error("Health and metrics are not served", {
        address: hostname,
        port,
        reason: messageOf(error),
      });
    }
  }
}

/** Seconds since the epoch at which a file was written; `undefined` when there is none. */
function writtenAt(path: string): number | undefined {
  try {
    const time = Deno.statSync(path).mtime?.getTime();
    return time === undefined ? undefined : time / 1000;
  } catch {
    return undefined;
  }
}
