/** The part of the running installer that serves plugin calls, probes and Prometheus. */
import type { ReceivedFinish } from "../../src/agent/messages.ts";
import { ConnectionState } from "../../src/kubernetes/connection_state.ts";
import { messageOf } from "../../src/text/message_of.ts";
import type { Sink } from "../../src/log/log.ts";
import { stderrSink } from "../../src/log/stderr.ts";
import { ClusterConnection } from "../cluster/cluster_connection.ts";
import { nodeName } from "../cluster/own_pod.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { RunningPods } from "../ledger/running_pods.ts";
import type { Observer, Service, ServiceContext, State } from "../loop/service.ts";
import type { Settings } from "../settings/declarations.ts";
import { buildInfo } from "./build_info.ts";
import { AgentMetrics } from "./agent_metrics.ts";
import { ApiHealth } from "./api_health.ts";
import type { CallServer } from "./call_server.ts";
import { callServerOf } from "./call_service.ts";
import { serveHealth } from "./health.ts";
import { MetricsRegistry } from "./metrics.ts";
import { PodCache } from "./pod_cache.ts";
import { type PodProvider, SocketServer } from "./socket_server.ts";
import { WatchLog } from "./watch_log.ts";

/** Milliseconds from a change of a pod to the look at it. */
const lookAfter = 350;

/** Serves the agent's sockets, and health and metrics when a port is set. */
export class AgentService implements Service {
  readonly #sink: Sink;
  readonly metrics = new AgentMetrics(new MetricsRegistry());
  readonly observer: Observer;
  /** How the requests to the API server go: the watch's, and those for single pods. */
  readonly apiState = new ConnectionState();
  #context: ServiceContext | undefined;
  readonly #connection: ClusterConnection;
  #health: ApiHealth | undefined;
  #cache: PodCache | undefined;
  #socket: SocketServer | undefined;
  #calls: CallServer | undefined;
  #http: Deno.HttpServer | undefined;
  #lastSocketTrouble = "";
  #running: RunningPods | undefined;
  #soon: ReturnType<typeof setTimeout> | undefined;

  readonly #pods: PodProvider = {
    cached: (request) => this.#cache?.cached(request),
    fetch: (request, signal) => {
      if (this.#cache === undefined) throw new Error("Agent cannot reach the API server yet");
      return this.#cache.fetch(request, signal);
    },
  };

  constructor(private readonly settings: Settings) {
    this.#sink = stderrSink(settings.logFormat);
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
    this.#health = new ApiHealth(context, this.apiState, () => this.#connection.client());
    const { registry } = this.metrics;
    registry.gauge(
      "kuma_cni_build_info",
      "1, with the program's version, target and runtime",
      () => [[buildInfo(), 1]],
    );
    registry.gauge(
      "kuma_cni_degraded",
      "1 for each reason why meshed pods may not start although all is installed, else 0",
      () => {
        const doubts = this.#health?.doubts ?? [];
        return doubts.length === 0 ? 0 : doubts.map(({ code }) => [{ reason: code }, 1] as const);
      },
    );
    registry.gauge(
      "kuma_cni_api_last_success_timestamp_seconds",
      "When the API server last answered the node agent",
      () => seconds(this.apiState.lastSuccess),
    );
    registry.gauge(
      "kuma_cni_token_expiry_timestamp_seconds",
      "When the service account token on the host expires, if it says so",
      () => seconds(this.#health?.tokenExpiry),
    );
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
      "kuma_cni_drifted_pods",
      "Running pods whose rules differ from the ledger, as far as it was looked",
      () => this.#running?.drifted ?? 0,
    );
    registry.gauge(
      "process_resident_memory_bytes",
      "Resident memory size in bytes",
      () => Deno.memoryUsage().rss,
    );
    this.#serveHealth(context);
  }

  /** Serves the sockets again if anything has happened to it; its folder may appear late. */
  tick(): void {
    const context = this.#context;
    if (context === undefined) return;
    this.#health?.tick();
    this.#runningPods(context).tick();
    try {
      this.#startCache(context);
      this.#socket ??= new SocketServer(
        `${context.paths.stateDir}/agent.sock`,
        this.#pods,
        {
          finished: (report) => this.#finished(report),
          podAnswered: (source) => this.metrics.podRequests.increment({ source }),
          failed: (cause, error) => this.#dropped(context, cause, error),
        },
      );
      this.#socket.ensureServing();
      if (this.settings.shim) this.#calls ??= this.#callServer(context);
      this.#calls?.ensureServing();
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
    clearTimeout(this.#soon);
    this.#health?.stop();
    this.#cache?.stop();
    this.#socket?.close();
    await this.#calls?.close();
    this.#connection.close();
    const http = this.#http;
    this.#http = undefined;
    await http?.shutdown();
  }

  #callServer(context: ServiceContext): CallServer {
    return callServerOf(context, {
      pods: this.#pods,
      metrics: this.metrics,
      finished: (report, entry) => {
        this.#finished(report);
        if (entry !== undefined) this.#record((ledger) => ledger.put(entry));
      },
      failed: (cause, error) => this.#dropped(context, cause, error),
    });
  }

  #finished({ records, outcome, entry }: ReceivedFinish): void {
    for (const record of records) this.#sink(record);
    if (outcome !== undefined) this.metrics.recordOutcome(outcome);
    if (entry !== undefined) this.#record((ledger) => ledger.record(entry));
  }

  #dropped({ log }: ServiceContext, cause: string, error: unknown): void {
    this.metrics.socketErrors.increment({ cause });
    log.debug("Connection to the agent's socket was dropped", { cause, error: messageOf(error) });
  }

  /** A report that is lost leaves its pod unknown to the ledger, which is no reason to fail a pod. */
  #record(write: (ledger: Ledger) => void): void {
    const context = this.#context;
    if (context === undefined) return;
    try {
      write(this.#runningPods(context).ledger);
    } catch (error) {
      this.metrics.ledgerErrors.increment();
      context.log.debug("Report of a plugin call is not in the ledger", {
        reason: messageOf(error),
      });
    }
  }

  #runningPods(context: ServiceContext): RunningPods {
    return this.#running ??= new RunningPods({
      settings: this.settings,
      stateFolder: context.paths.stateDir,
      log: context.log,
      client: () => this.#connection.client(),
      pods: () => this.#cache?.all(),
      checked: (result) => this.metrics.rulesChecks.increment({ result }),
      early: (result) => this.metrics.earlyPods.increment({ result }),
    });
  }

  /** A pod that started without its rules waits for them; several changes are one look. */
  #lookSoon(): void {
    if (this.settings.repairEarlyPods === "off") return;
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#running?.tick();
    }, lookAfter);
  }

  #startCache(context: ServiceContext): void {
    if (this.#cache !== undefined) return;
    const connect = () => this.#connection.client();
    const log = new WatchLog(context.log);
    const cache = new PodCache(connect, (signal) => nodeName(this.settings, connect(), signal), {
      observer: {
        synchronized: (pods) => log.synchronized(pods),
        changed: () => this.#lookSoon(),
        interrupted: (error, retryMilliseconds) => {
          this.metrics.watchRestarts.increment();
          log.interrupted(error, retryMilliseconds);
        },
      },
    });
    this.#cache = cache;
    void cache.run();
  }

  /** Doubts do not make it unready: pods outside the mesh start, and a restart would not help. */
  #readiness(context: ServiceContext): State {
    const { ready, reason } = context.state();
    const doubts = (this.#health?.doubts ?? []).map(({ text }) => text);
    return { ready, reason: doubts.length === 0 ? reason : `${reason}; but: ${doubts.join("; ")}` };
  }

  #serveHealth(context: ServiceContext): void {
    const { healthPort: port, healthAddress: hostname } = this.settings;
    if (port === 0) return;
    try {
      this.#http = serveHealth({ hostname, port }, {
        readiness: () => this.#readiness(context),
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

/** Seconds of a time in milliseconds. */
function seconds(milliseconds: number | undefined): number | undefined {
  return milliseconds === undefined ? undefined : milliseconds / 1000;
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
