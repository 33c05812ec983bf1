import assert from "node:assert/strict";
import { AgentMetrics } from "../installer/agent/agent_metrics.ts";
import { respond } from "../installer/agent/health.ts";
import { MetricsRegistry } from "../installer/agent/metrics.ts";

/**
 * Parses the text exposition format as strictly as Prometheus does: HELP and TYPE once before the
 * samples of a family, no sample twice, histograms cumulative with matching count.
 */
function parseExposition(text: string): Map<string, number> {
  assert.ok(text.endsWith("\n"), "the last line must end");
  const samples = new Map<string, number>();
  const types = new Map<string, string>();
  let family = "";
  for (const line of text.slice(0, -1).split("\n")) {
    const comment = /^# (HELP|TYPE) ([a-z][a-z0-9_]*) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind, name, rest] = comment as unknown as [string, string, string, string];
      if (kind === "HELP") {
        assert.ok(!types.has(name), `family ${name} is there twice`);
        family = name;
      } else {
        assert.equal(name, family, "TYPE must follow HELP of the same family");
        assert.match(rest, /^(counter|gauge|histogram)$/);
        types.set(name, rest);
      }
      continue;
    }
    const sample =
      /^([a-z][a-z0-9_]*)(\{[a-z_]+="(?:[^"\\\n]|\\[\\n"])*"(?:,[a-z_]+="(?:[^"\\\n]|\\[\\n"])*")*\})? (\S+)$/
        .exec(line);
    assert.ok(sample, `not a sample: ${JSON.stringify(line)}`);
    const [, name, labels, value] = sample as unknown as [string, string, string?, string?];
    const suffix = types.get(family) === "histogram" ? /_(bucket|sum|count)$/ : /$^/;
    assert.equal(name.replace(suffix, ""), family, `sample outside its family: ${line}`);
    assert.ok(!samples.has(name + (labels ?? "")), `sample twice: ${line}`);
    assert.ok(Number.isFinite(Number(value)), `not a number: ${line}`);
    samples.set(name + (labels ?? ""), Number(value));
  }
  return samples;
}

Deno.test("metrics are exposed in Prometheus' format, hostile label values included", () => {
  const registry = new MetricsRegistry();
  const counter = registry.counter("a_total", 'Counts "a"\nand \\');
  counter.increment({ reason: 'quote " backslash \\ newline \n end' });
  counter.increment({ reason: "plain" }, 3);
  registry.gauge("b", "Reads", () => 1.5);
  registry.gauge("c", "Never set");
  const samples = parseExposition(registry.expose());
  assert.equal(samples.get('a_total{reason="quote \\" backslash \\\\ newline \\n end"}'), 1);
  assert.equal(samples.get('a_total{reason="plain"}'), 3);
  assert.equal(samples.get("b"), 1.5);
  assert.equal(samples.has("c"), false);
});

Deno.test("histograms are cumulative and their sums right", () => {
  const registry = new MetricsRegistry();
  const histogram = registry.histogram("h_seconds", "Takes", [0.1, 1]);
  for (const value of [0.05, 0.1, 0.5, 1, 7]) histogram.observe(value, { phase: "x" });
  const samples = parseExposition(registry.expose());
  assert.equal(samples.get('h_seconds_bucket{le="0.1",phase="x"}'), 2);
  assert.equal(samples.get('h_seconds_bucket{le="1",phase="x"}'), 4);
  assert.equal(samples.get('h_seconds_bucket{le="+Inf",phase="x"}'), 5);
  assert.equal(samples.get('h_seconds_count{phase="x"}'), 5);
  assert.equal(samples.get('h_seconds_sum{phase="x"}'), 8.65);
});

Deno.test("metrics of one name cannot be declared twice", () => {
  const registry = new MetricsRegistry();
  registry.counter("a_total", "Counts");
  assert.throws(() => registry.gauge("a_total", "Reads"), /declared twice/);
  assert.throws(() => registry.gauge("Not-a-name", "Reads"), /snake case/);
});

Deno.test("outcomes of plugin calls are counted with bounded labels", () => {
  const metrics = new AgentMetrics(new MetricsRegistry());
  metrics.recordOutcome({
    command: "ADD",
    result: "redirected",
    bytecode: "used",
    phases: { total: 30, apply: 3 },
  });
  metrics.recordOutcome({
    command: "ADD",
    result: "skipped",
    reason: "no-sidecar",
    phases: { total: 10 },
  });
  metrics.recordOutcome({
    command: 'ADD"} 1\nforged_total 99',
    result: "failed",
    reason: "11",
    bytecode: 'used"} 1',
    phases: { ["x".repeat(1000)]: 5 },
  });
  const samples = parseExposition(metrics.registry.expose());
  assert.equal(samples.get('kuma_cni_plugin_calls_total{command="add",result="redirected"}'), 1);
  assert.equal(samples.get('kuma_cni_plugin_calls_total{command="add",result="skipped"}'), 1);
  assert.equal(samples.get('kuma_cni_plugin_calls_total{command="other",result="failed"}'), 1);
  assert.equal(samples.get('kuma_cni_plugin_failures_total{code="11",command="other"}'), 1);
  assert.equal(samples.get('kuma_cni_skipped_pods_total{reason="no-sidecar"}'), 1);
  assert.equal(samples.get('kuma_cni_plugin_bytecode_total{state="used"}'), 1);
  assert.equal(samples.get('kuma_cni_plugin_bytecode_total{state="other"}'), 1);
  assert.equal(
    samples.get('kuma_cni_plugin_phase_duration_seconds_sum{command="add",phase="total"}'),
    0.04,
  );
  assert.equal(
    samples.get('kuma_cni_plugin_phase_duration_seconds_count{command="other",phase="other"}'),
    1,
  );
});

Deno.test("health endpoints tell the state as it is at each request", async () => {
  let ready = false;
  const source = {
    readiness: () => ({ ready, reason: ready ? "Installed" : "Waiting for a primary CNI" }),
    liveness: () => ({ alive: true, reason: "The loop turns" }),
    metrics: () => "a_total 1\n",
  };
  const get = (path: string, method = "GET") =>
    respond(new Request(`http://localhost${path}`, { method }), source);
  assert.equal(get("/readyz").status, 503);
  assert.equal(await get("/readyz").text(), "Waiting for a primary CNI\n");
  ready = true;
  assert.equal(get("/readyz").status, 200);
  assert.equal(get("/healthz").status, 200);
  assert.equal(get("/metrics").headers.get("content-type")?.startsWith("text/plain"), true);
  assert.equal(get("/other").status, 404);
  assert.equal(get("/metrics", "POST").status, 405);
});
