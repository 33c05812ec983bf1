/** Values about metrics, alerts and dashboards. */
import { textLike, truth } from "./kinds.ts";
import { textMapping } from "./kubernetes_kinds.ts";
import { value } from "./value_declaration.ts";

const duration = textLike("a duration, such as 30s", "^[1-9][0-9]*(ms|s|m|h)$");

/** Those of `cni.monitoring`. */
export const monitoringValues = {
  "cni.monitoring.podMonitor": value(
    truth,
    false,
    "Whether there is a PodMonitor of the Prometheus Operator; needs cni.healthPort",
    "PodMonitor",
  ),
  "cni.monitoring.serviceMonitor": value(
    truth,
    false,
    "Whether there are a Service and a ServiceMonitor instead; needs cni.healthPort",
    "Service, ServiceMonitor",
  ),
  "cni.monitoring.prometheusRule": value(
    truth,
    false,
    "Whether there is a PrometheusRule with the alerts of docs/operations.md",
    "PrometheusRule",
  ),
  "cni.monitoring.grafanaDashboard": value(
    truth,
    false,
    "Whether there is a ConfigMap with a dashboard for Grafana's sidecar",
    "ConfigMap kuma-cni-dashboard",
  ),
  "cni.monitoring.interval": value(
    duration,
    "30s",
    "How often metrics are asked for",
    "PodMonitor, ServiceMonitor: interval",
  ),
  "cni.monitoring.labels": value(
    textMapping,
    {},
    "Labels by which a Prometheus finds its monitors and rules",
    "PodMonitor, ServiceMonitor, PrometheusRule: labels",
  ),
  "cni.monitoring.dashboardLabels": value(
    textMapping,
    { grafana_dashboard: "1" },
    "Labels by which Grafana's sidecar finds dashboards",
    "ConfigMap kuma-cni-dashboard: labels",
  ),
} as const;
