/** Every metric of the node agent, declared once; `docs/operations.md` lists the same names. */
import type { CallOutcome } from "../../src/agent/messages.ts";
import type { Counter, Histogram, MetricsRegistry } from "./metrics.ts";

const LATENCY_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Phases and reasons that become label values: a bounded set, whatever a client sends. */
const LABEL_VALUE = /^[a-z0-9-]{1,32}$/;

/** The metrics of one node agent. */
export class AgentMetrics {
  readonly installs: Counter;
  readonly heals: Counter;
  readonly healSeconds: Histogram;
  readonly conflicts: Counter;
  readonly calls: Counter;
  readonly failures: Counter;
  readonly skips: Counter;
  readonly ebpfFallbacks: Counter;
  readonly bytecode: Counter;
  readonly phaseSeconds: Histogram;
  readonly socketErrors: Counter;
  readonly ledgerErrors: Counter;
  readonly rulesChecks: Counter;
  readonly earlyPods: Counter;
  readonly podRequests: Counter;
  readonly shimCalls: Counter;
  readonly watchRestarts: Counter;

  constructor(readonly registry: MetricsRegistry) {
    this.installs = registry.counter(
      "kuma_cni_installs_total",
      "Complete installations of the plugin by this process",
    );
    this.heals = registry.counter(
      "kuma_cni_heals_total",
      "Repairs of what other software changed, by cause",
    );
    this.healSeconds = registry.histogram(
      "kuma_cni_heal_duration_seconds",
      "From noticing a foreign change to the plugin being in place again",
      [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5],
    );
    this.conflicts = registry.counter(
      "kuma_cni_conflicts_total",
      "Writes that another program came before, and contention for a file",
    );
    this.calls = registry.counter(
      "kuma_cni_plugin_calls_total",
      "Calls of the plugin by command and result",
    );
    this.failures = registry.counter(
      "kuma_cni_plugin_failures_total",
      "Failed calls of the plugin by command and CNI error code",
    );
    this.skips = registry.counter(
      "kuma_cni_skipped_pods_total",
      "Pods that were skipped, by reason",
    );
    this.ebpfFallbacks = registry.counter(
      "kuma_cni_ebpf_fallbacks_total",
      "Pods that were to be redirected by the engine ebpf and got other rules, by reason",
    );
    this.bytecode = registry.counter(
      "kuma_cni_plugin_bytecode_total",
      "Calls of the plugin by what V8 did with the bytecode of the build: used, missing, refused",
    );
    this.phaseSeconds = registry.histogram(
      "kuma_cni_plugin_phase_duration_seconds",
      "Duration of the plugin's phases, by command and phase",
      LATENCY_SECONDS,
    );
    this.socketErrors = registry.counter(
      "kuma_cni_agent_socket_errors_total",
      "Connections to the agent's sockets that were dropped, by cause",
    );
    this.ledgerErrors = registry.counter(
      "kuma_cni_ledger_errors_total",
      "Reports of plugin calls that could not be kept in the ledger",
    );
    this.rulesChecks = registry.counter(
      "kuma_cni_rules_checks_total",
      "Comparisons of a running pod's rules with the ledger, by result",
    );
    this.earlyPods = registry.counter(
      "kuma_cni_early_pods_total",
      "Looks at meshed pods that the ledger does not know, by result",
    );
    this.podRequests = registry.counter(
      "kuma_cni_agent_pod_requests_total",
      "Pods that the plugin's calls asked for, by source of the answer",
    );
    this.shimCalls = registry.counter(
      "kuma_cni_agent_calls_total",
      "Calls that the shim brought: served by the agent, or left to the plugin, with the reason",
    );
    this.watchRestarts = registry.counter(
      "kuma_cni_agent_watch_restarts_total",
      "Interruptions of the watch on this node's pods",
    );
  }

  /** Counts how one call of the plugin ended. */
  recordOutcome(outcome: CallOutcome): void {
    const command = labelValue(outcome.command.toLowerCase());
    this.calls.increment({ command, result: outcome.result });
    if (outcome.result === "failed") {
      this.failures.increment({ command, code: labelValue(outcome.reason ?? "unknown") });
    }
    if (outcome.result === "skipped") {
      this.skips.increment({ reason: labelValue(outcome.reason ?? "unknown") });
    }
    if (outcome.fallback !== undefined) {
      this.ebpfFallbacks.increment({ reason: labelValue(outcome.fallback) });
    }
    if (outcome.bytecode !== undefined) {
      this.bytecode.increment({ state: labelValue(outcome.bytecode) });
    }
    for (const [phase, milliseconds] of Object.entries(outcome.phases)) {
      this.phaseSeconds.observe(milliseconds / 1000, { command, phase: labelValue(phase) });
    }
  }
}

function labelValue(value: string): string {
  return LABEL_VALUE.test(value) ? value : "other";
}
