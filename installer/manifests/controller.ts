/** The Deployment of the controller, its account and its rights. */
import type { KubernetesObject, Names } from "./objects.ts";
import type { Tree } from "./tree.ts";
import type { Values } from "./values.ts";

const group = "rbac.authorization.k8s.io";

/** Anybody but root; the number that distroless images call "nonroot". */
const user = 65_532;

/** Returns the objects, none when they are not asked for. */
export function controllerObjects(
  values: Values,
  names: Names,
  image: string,
): readonly KubernetesObject[] {
  if (!values.get("cni.controller.enabled")) return [];
  const secrets = values.get("global.imagePullSecrets");
  const { name, labels } = controllerNames(names);
  const account: KubernetesObject = {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name, namespace: names.namespace, labels },
    automountServiceAccountToken: false,
    ...(secrets.length === 0 ? {} : { imagePullSecrets: secrets.map((name) => ({ name })) }),
  };
  return [
    account,
    ...(values.get("skipRBAC") ? [] : controllerRights(values, names)),
    deployment(values, names, image),
  ];
}

/** Its pods must not have the CNI's label `app`, by which a node's CNI pod is found. */
function controllerNames({ cni, labels }: Names): { name: string; labels: Tree } {
  const name = `${cni}-controller`;
  return { name, labels: { ...labels, app: name } };
}

function controllerRights(values: Values, names: Names): KubernetesObject[] {
  const { name, labels } = controllerNames(names);
  const subjects = [{ kind: "ServiceAccount", name, namespace: names.namespace }];
  const pair = (where: string | undefined, roleName: string, rules: Tree[]): KubernetesObject[] => {
    const kind = where === undefined ? "ClusterRole" : "Role";
    const metadata = {
      name: roleName,
      ...(where === undefined ? {} : { namespace: where }),
      labels,
    };
    return [
      { apiVersion: `${group}/v1`, kind, metadata, rules },
      {
        apiVersion: `${group}/v1`,
        kind: `${kind}Binding`,
        metadata,
        roleRef: { apiGroup: group, kind, name: roleName },
        subjects,
      },
    ];
  };
  const rule = (apiGroup: string, resource: string, verbs: string[], resourceNames?: string[]) => ({
    apiGroups: [apiGroup],
    resources: [resource],
    ...(resourceNames === undefined ? {} : { resourceNames }),
    verbs,
  });
  return [
    ...pair(undefined, name, [
      rule("", "nodes", ["get", "list", "watch", "patch"]),
      ...(values.get("cni.attachmentController.enabled") ? attachmentRules(rule) : []),
    ]),
    ...pair(names.namespace, name, [
      rule("", "pods", ["list", "watch"]),
      rule("apps", "daemonsets", ["list", "watch"]),
      rule("coordination.k8s.io", "leases", ["create"]),
      rule("coordination.k8s.io", "leases", ["get", "patch"], [name]),
    ]),
    // Events of nodes stand in this namespace; kubectl describes nodes with them.
    ...pair("default", `${name}-events`, [rule("", "events", ["create"])]),
  ];
}

/** Lists and watches by name alone are allowed by name alone; for a creation there is no such rule. */
function attachmentRules(
  rule: (apiGroup: string, resource: string, verbs: string[], resourceNames?: string[]) => Tree,
): Tree[] {
  const [group, resource] = ["k8s.cni.cncf.io", "network-attachment-definitions"];
  return [
    rule("", "namespaces", ["list", "watch"]),
    rule("apiextensions.k8s.io", "customresourcedefinitions", ["list", "watch"], [
      `${resource}.${group}`,
    ]),
    rule(group, resource, ["create"]),
    rule(group, resource, ["list", "watch", "patch", "delete"], ["kuma-cni"]),
  ];
}

function deployment(values: Values, names: Names, image: string): KubernetesObject {
  const { name, labels } = controllerNames(names);
  const nodeSelector = values.get("cni.controller.nodeSelector");
  const priorityClassName = values.get("cni.controller.priorityClassName");
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace: names.namespace, labels },
    spec: {
      replicas: values.get("cni.controller.replicas"),
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          serviceAccountName: name,
          automountServiceAccountToken: true,
          ...(priorityClassName === "" ? {} : { priorityClassName }),
          ...(Object.keys(nodeSelector).length === 0 ? {} : { nodeSelector }),
          affinity: spread(labels),
          tolerations: [
            // With all nodes tainted nobody could take the taint away but a pod that comes there.
            { key: values.get("cni.taintController.key"), operator: "Exists" },
            { key: "CriticalAddonsOnly", operator: "Exists" },
            { key: "node-role.kubernetes.io/control-plane", operator: "Exists" },
            ...values.get("cni.controller.tolerations"),
          ],
          terminationGracePeriodSeconds: 15,
          securityContext: {
            runAsGroup: user,
            runAsNonRoot: true,
            runAsUser: user,
            seccompProfile: { type: "RuntimeDefault" },
          },
          containers: [container(values, names, image)],
        },
      },
    },
  };
}

/** One on each of two nodes, where there are two. */
function spread(labels: Tree): Tree {
  return {
    podAntiAffinity: {
      preferredDuringSchedulingIgnoredDuringExecution: [{
        weight: 100,
        podAffinityTerm: {
          topologyKey: "kubernetes.io/hostname",
          labelSelector: { matchLabels: labels },
        },
      }],
    },
  };
}

function container(values: Values, names: Names, image: string): Tree {
  const { name } = controllerNames(names);
  const port = values.get("cni.controller.healthPort");
  const probe = (path: string) => ({
    httpGet: { path, port: "health", scheme: "HTTP" },
    periodSeconds: 10,
    timeoutSeconds: 5,
  });
  const field = (name: string, fieldPath: string) => ({
    name,
    valueFrom: { fieldRef: { apiVersion: "v1", fieldPath } },
  });
  const taint = "KUMA_RUNTIME_KUBERNETES_NODE_TAINT_CONTROLLER";
  const resources = values.get("cni.controller.resources");
  return {
    name: "controller",
    image,
    imagePullPolicy: values.get("cni.image.imagePullPolicy"),
    command: ["/install-cni", "controller"],
    env: [
      { name: `${taint}_ENABLED`, value: String(values.get("cni.taintController.enabled")) },
      { name: `${taint}_CNI_APP`, value: names.cni },
      { name: `${taint}_CNI_NAMESPACE`, value: names.namespace },
      { name: "KUMA_CNI_TAINT_KEY", value: values.get("cni.taintController.key") },
      { name: "KUMA_CNI_TAINT_EFFECT", value: values.get("cni.taintController.effect") },
      {
        name: "KUMA_CNI_TAINT_GRACE",
        value: String(values.get("cni.taintController.graceSeconds")),
      },
      {
        name: "KUMA_CNI_ATTACHMENT_CONTROLLER_ENABLED",
        value: String(values.get("cni.attachmentController.enabled")),
      },
      { name: "KUMA_CNI_CONTROLLER_LEASE", value: name },
      { name: "CNI_LOG_LEVEL", value: values.get("cni.logLevel") },
      { name: "HEALTH_PORT", value: String(port) },
      field("HEALTH_ADDRESS", "status.podIP"),
      field("POD_NAME", "metadata.name"),
      field("POD_NAMESPACE", "metadata.namespace"),
    ],
    ports: [{ name: "health", containerPort: port, protocol: "TCP" }],
    livenessProbe: probe("/healthz"),
    readinessProbe: probe("/readyz"),
    ...(Object.keys(resources).length === 0 ? {} : { resources }),
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      readOnlyRootFilesystem: true,
    },
  };
}
