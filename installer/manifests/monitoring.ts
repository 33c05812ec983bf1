/** Objects for the Prometheus Operator and Grafana, each of which must be asked for. */
import alerts from "../../deploy/helm/kuma-cni/files/alerts.json" with { type: "json" };
import dashboard from "../../deploy/helm/kuma-cni/files/dashboard.json" with { type: "json" };
import { prettyJson } from "./network_config.ts";
import type { KubernetesObject, Names } from "./objects.ts";
import type { Tree } from "./tree.ts";
import type { Values } from "./values.ts";

const operator = "monitoring.coreos.com/v1";

/** Returns the objects that the values ask for. */
export function monitoringObjects(values: Values, names: Names): readonly KubernetesObject[] {
  const { namespace, cni, labels } = names;
  const found = { ...labels, ...values.get("cni.monitoring.labels") };
  const metadata = { name: `${cni}-node`, namespace, labels: found };
  const endpoints = [endpoint(values.get("cni.monitoring.interval"))];
  const selector = { matchLabels: labels };
  const objects: (KubernetesObject | false)[] = [
    values.get("cni.monitoring.podMonitor") && {
      apiVersion: operator,
      kind: "PodMonitor",
      metadata,
      spec: { selector, podMetricsEndpoints: endpoints },
    },
    values.get("cni.monitoring.serviceMonitor") && {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: `${cni}-node`, namespace, labels },
      spec: {
        clusterIP: "None",
        selector: labels,
        ports: [{ name: "health", port: values.get("cni.healthPort"), targetPort: "health" }],
      },
    },
    values.get("cni.monitoring.serviceMonitor") && {
      apiVersion: operator,
      kind: "ServiceMonitor",
      metadata,
      spec: { selector, endpoints },
    },
    values.get("cni.monitoring.prometheusRule") && {
      apiVersion: operator,
      kind: "PrometheusRule",
      metadata: { name: cni, namespace, labels: found },
      spec: alerts,
    },
    values.get("cni.monitoring.grafanaDashboard") && {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: {
        name: `${cni}-dashboard`,
        namespace,
        labels: { ...labels, ...values.get("cni.monitoring.dashboardLabels") },
      },
      data: { "kuma-cni.json": prettyJson(dashboard) },
    },
  ];
  return objects.filter((object) => object !== false);
}

/** How metrics are asked for; alerts and dashboard go by the node. */
function endpoint(interval: string): Tree {
  return {
    port: "health",
    path: "/metrics",
    interval,
    relabelings: [{ sourceLabels: ["__meta_kubernetes_pod_node_name"], targetLabel: "node" }],
  };
}
