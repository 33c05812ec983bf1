/** Alerts and dashboard: those of docs/operations.md, about metrics that there are. */
import { deepEqual, equal, ok } from "node:assert/strict";
import alerts from "../deploy/helm/kuma-cni/files/alerts.json" with { type: "json" };
import dashboard from "../deploy/helm/kuma-cni/files/dashboard.json" with { type: "json" };

const document = Deno.readTextFileSync(new URL("../docs/operations.md", import.meta.url));

/** Cells of the rows of a table of the document, by the head's first cell. */
function table(head: string): string[][] {
  const lines = document.split("\n");
  const start = lines.findIndex((line) => line.startsWith(`| ${head} `));
  ok(start >= 0, head);
  const end = lines.findIndex((line, i) => i > start && !line.startsWith("|"));
  return lines.slice(start + 2, end)
    .map((line) => line.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim()));
}

const rules = alerts.groups.flatMap((group) => group.rules);

Deno.test("the alerts are those of docs/operations.md", () => {
  const expected = table("for").map(([, expression = "", severity]) => ({
    // A pipe would end the table's cell.
    expr: /^`(.*?)`/.exec(expression)?.[1]?.replaceAll("\\|", "|"),
    for: /for (\d+) minutes/.exec(expression)?.[1],
    severity,
  }));
  ok(expected.length >= 6);
  const actual = rules.map((rule) => ({
    expr: rule.expr,
    for: "for" in rule ? /^(\d+)m$/.exec(rule.for ?? "")?.[1] : undefined,
    severity: rule.labels.severity,
  }));
  deepEqual(actual, expected);
  equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
});

Deno.test("alerts and dashboard ask for metrics and labels that there are", () => {
  const metrics = new Map(
    table("metric").map(([name = "", type, labels = ""]) => [
      name.replaceAll("`", ""),
      {
        type,
        text: labels,
        labels: Array.from(labels.matchAll(/`(\w+)`/g), ([, label]) => label!),
      },
    ]),
  );
  ok(metrics.size > 10);
  const expressions = [
    ...rules.map(({ expr }) => expr),
    ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  ];
  const used = new Set<string>();
  for (const expression of expressions) {
    const names = expression.match(/\b(?:kuma_cni|process)_\w+/g) ?? [];
    ok(names.length > 0, expression);
    for (const name of names) {
      const metric = name.replace(/_bucket$/, "");
      const found = metrics.get(metric);
      ok(found, `${name} in ${expression}`);
      equal(found.type === "histogram", name.endsWith("_bucket"), `${name} is a ${found.type}`);
      if (found.type === "counter") ok(/(rate|increase)\(/.test(expression), expression);
      used.add(metric);
    }
    const known = new Set([
      "node",
      "le",
      "instance",
      ...names.flatMap((name) => metrics.get(name.replace(/_bucket$/, ""))!.labels),
    ]);
    const labels = [
      ...Array.from(expression.matchAll(/[{,]\s*(\w+)\s*(?:=~|!~|!=|=)/g), ([, label]) => label!),
      ...Array.from(expression.matchAll(/by \(([^)]*)\)/g), ([, list]) => list!.split(/,\s*/))
        .flat(),
    ];
    deepEqual(labels.filter((label) => !known.has(label)), [], expression);
    // A value that nothing has makes an alert that never fires.
    for (const [, label, values = ""] of expression.matchAll(/(\w+)=~?"([a-z|-]+)"/g)) {
      const told = names.map((name) => metrics.get(name.replace(/_bucket$/, ""))!.text).join();
      const list = new RegExp(`\`${label}\`: ([a-z0-9, ]+)`).exec(told)?.[1] ?? "";
      const listed = list === "see below"
        ? table(label!).flatMap(([cell = ""]) => cell.replaceAll("`", "").split(", "))
        : list.split(", ");
      deepEqual(values.split("|").filter((value) => !listed.includes(value)), [], expression);
    }
  }
  for (
    const metric of [
      "kuma_cni_ready",
      "kuma_cni_plugin_calls_total",
      "kuma_cni_plugin_phase_duration_seconds",
      "kuma_cni_heals_total",
      "kuma_cni_conflicts_total",
      "kuma_cni_token_refresh_timestamp_seconds",
      "kuma_cni_drifted_pods",
      "kuma_cni_early_pods_total",
    ]
  ) {
    ok(used.has(metric), `${metric} is on no panel and in no alert`);
  }
});
