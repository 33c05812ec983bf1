/** The account that install-cni and the plugin use, and what it may do. */
import type { KubernetesObject, Names } from "./objects.ts";
import type { Values } from "./values.ts";

const group = "rbac.authorization.k8s.io";

/** The account; its token is mounted by the pods that need it, not by whoever uses the account. */
export function serviceAccount(values: Values, names: Names): KubernetesObject {
  const secrets = values.get("global.imagePullSecrets");
  const { namespace, cni, labels } = names;
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: cni, namespace, labels },
    automountServiceAccountToken: false,
    ...(secrets.length === 0 ? {} : { imagePullSecrets: secrets.map((name) => ({ name })) }),
  };
}

/** Tells whether install-cni enters the network namespaces of running pods. */
export function mayEnterPods(values: Values): boolean {
  return values.get("cni.repair.enterPods") || values.get("cni.repair.earlyPods") !== "off";
}

/**
 * The role, bound in the whole cluster, or only in the namespaces of the mesh and that of install-cni,
 * which reads its own pod.
 */
export function rightsObjects(values: Values, names: Names): readonly KubernetesObject[] {
  if (values.get("skipRBAC")) return [];
  const allowed = values.get("namespaceAllowList");
  const { namespace, cni, labels } = names;
  const binding = {
    roleRef: { apiGroup: group, kind: "ClusterRole", name: cni },
    subjects: [{ kind: "ServiceAccount", name: cni, namespace }],
  };
  const role: KubernetesObject = {
    apiVersion: `${group}/v1`,
    kind: "ClusterRole",
    metadata: { name: cni, labels },
    rules: [
      {
        apiGroups: [""],
        resources: ["pods"],
        verbs: values.get("cni.rbac.watchPods") || values.get("cni.repair.earlyPods") !== "off"
          ? ["get", "list", "watch"]
          : ["get"],
      },
      ...(mayEnterPods(values)
        ? [{ apiGroups: [""], resources: ["events"], verbs: ["create"] }]
        : []),
      ...(values.get("cni.taintController.agentMayRemove")
        ? [{ apiGroups: [""], resources: ["nodes"], verbs: ["get", "patch"] }]
        : []),
      ...(values.get("cni.rbac.getDaemonSets")
        ? [{ apiGroups: ["apps"], resources: ["daemonsets"], verbs: ["get"] }]
        : []),
    ],
  };
  if (allowed.length === 0) {
    return [role, {
      apiVersion: `${group}/v1`,
      kind: "ClusterRoleBinding",
      metadata: { name: cni, labels },
      ...binding,
    }];
  }
  return [
    role,
    ...[...new Set([namespace, ...allowed])].map((where) => ({
      apiVersion: `${group}/v1`,
      kind: "RoleBinding",
      metadata: { name: cni, namespace: where, labels },
      ...binding,
    })),
  ];
}
