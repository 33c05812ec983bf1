/** Every metric of the controller, declared once; `docs/controller.md` lists the same names. */
import type { Counter, Gauge, Histogram, MetricsRegistry } from "../agent/metrics.ts";

/** The metrics of one controller. */
export class ControllerMetrics {
  readonly leading: Gauge;
  readonly changes: Counter;
  readonly removalSeconds: Histogram;

  constructor(readonly registry: MetricsRegistry, tainted: () => number | undefined) {
    this.leading = registry.gauge(
      "kuma_cni_controller_leading",
      "1 in the replica that acts",
    );
    this.changes = registry.counter(
      "kuma_cni_controller_changes_total",
      "Changes that were sent to the API server, by kind of object and verb",
    );
    this.removalSeconds = registry.histogram(
      "kuma_cni_controller_taint_removal_duration_seconds",
      "From noticing a ready CNI pod to its node's taint being gone",
      [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    );
    registry.gauge(
      "kuma_cni_controller_tainted_nodes",
      "Nodes that have the taint now, as the replica that acts sees them",
      tainted,
    );
    registry.gauge(
      "process_resident_memory_bytes",
      "Resident memory size in bytes",
      () => Deno.memoryUsage().rss,
    );
    this.leading.set(0);
  }
}
