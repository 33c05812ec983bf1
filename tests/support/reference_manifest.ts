/**
 * The objects that Kuma's chart renders for its CNI, field by field, with the image of this build:
 * whoever replaces the reference's image by ours gets these.
 */
import { ociImage } from "./oci_image.ts";

/** Name of the image that {@linkcode installerImage} makes. */
export const installerReference = "kuma-test.local/kuma-cni:test";

const namespace = "kube-system";
const selector = {
  app: "kuma-cni",
  "app.kubernetes.io/name": "kuma",
  "app.kubernetes.io/instance": "kuma",
} as const;
const labels = {
  ...selector,
  "helm.sh/chart": "kuma-2.9.13",
  "app.kubernetes.io/version": "2.9.13",
  "app.kubernetes.io/managed-by": "Helm",
} as const;

/** Values of the chart that the tests choose. */
export interface ManifestValues {
  /** `cni.netDir`: path on the host. */
  readonly netDir: string;
  /** `cni.binDir`: path on the host. */
  readonly binDir: string;
  /** `cni.confName`. */
  readonly confName: string;
  /** `cni.delayStartupSeconds`. */
  readonly delayStartupSeconds?: number;
}

/** What the reference's account may do, and what ours may do where the chart lets it. */
export const rights = {
  reference: [
    { apiGroups: [""], resources: ["nodes"], verbs: ["get"] },
    { apiGroups: [""], resources: ["pods"], verbs: ["get"] },
  ],
  full: [
    { apiGroups: ["apps"], resources: ["daemonsets"], verbs: ["get"] },
    { apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] },
  ],
} as const;

/** The account with its rights. */
export function accountObjects(rules: typeof rights[keyof typeof rights]): object[] {
  const metadata = { name: "kuma-cni", labels };
  return [
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { ...metadata, namespace } },
    { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRole", metadata, rules },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata,
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "kuma-cni" },
      subjects: [{ kind: "ServiceAccount", name: "kuma-cni", namespace }],
    },
  ];
}

/** ConfigMap and DaemonSet. */
export function installerObjects(values: ManifestValues): object[] {
  return [configMap(values), daemonSet(values)];
}

function configMap(values: ManifestValues): object {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "kuma-cni-config", namespace, labels },
    data: {
      cni_network_config: JSON.stringify(
        {
          cniVersion: "0.3.1",
          name: "kuma-cni",
          type: "kuma-cni",
          log_level: "info",
          kubernetes: {
            kubeconfig: "__KUBECONFIG_FILEPATH__",
            cni_bin_dir: values.binDir,
            exclude_namespaces: ["kube-system"],
          },
        },
        undefined,
        2,
      ),
    },
  };
}

function daemonSet(values: ManifestValues): object {
  const delay = values.delayStartupSeconds ?? 0;
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: {
      name: "kuma-cni-node",
      namespace,
      labels,
      annotations: { "ignore-check.kube-linter.io/run-as-non-root": "The installer runs as root" },
    },
    spec: {
      selector: { matchLabels: selector },
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
      template: {
        metadata: { labels: selector, annotations: { "checksum/config": "0".repeat(64) } },
        spec: {
          priorityClassName: "system-node-critical",
          nodeSelector: { "kubernetes.io/os": "linux" },
          tolerations: [
            { effect: "NoSchedule", operator: "Exists" },
            { key: "CriticalAddonsOnly", operator: "Exists" },
            { effect: "NoExecute", operator: "Exists" },
          ],
          serviceAccountName: "kuma-cni",
          terminationGracePeriodSeconds: 5,
          containers: [{
            name: "install-cni",
            image: installerReference,
            imagePullPolicy: "IfNotPresent",
            command: ["sh", "-c", "--"],
            args: [`sleep ${delay} && exec /install-cni`],
            readinessProbe: {
              initialDelaySeconds: delay,
              exec: { command: ["cat", "/tmp/ready"] },
            },
            securityContext: {
              readOnlyRootFilesystem: true,
              runAsNonRoot: false,
              runAsUser: 0,
              runAsGroup: 0,
            },
            env: [
              { name: "CNI_CONF_NAME", value: values.confName },
              {
                name: "CNI_NETWORK_CONFIG",
                valueFrom: {
                  configMapKeyRef: { name: "kuma-cni-config", key: "cni_network_config" },
                },
              },
              { name: "CNI_NET_DIR", value: values.netDir },
              { name: "CHAINED_CNI_PLUGIN", value: "true" },
              { name: "CNI_LOG_LEVEL", value: "info" },
            ],
            resources: {
              requests: { cpu: "100m", memory: "100Mi" },
              limits: { memory: "100Mi" },
            },
            volumeMounts: [
              { mountPath: "/host/opt/cni/bin", name: "cni-bin-dir" },
              { mountPath: "/host/etc/cni/net.d", name: "cni-net-dir" },
              { mountPath: "/tmp", name: "tmp" },
            ],
          }],
          volumes: [
            { name: "cni-bin-dir", hostPath: { path: values.binDir } },
            { name: "cni-net-dir", hostPath: { path: values.netDir } },
            { name: "tmp", emptyDir: {} },
          ],
        },
      },
    },
  };
}

/**
 * Makes the image: our two programs where the reference has its own, a shell with `cat` and `sleep`,
 * and the C library that install-cni runs with.
 *
 * @param dist Folder of the built programs.
 */
export function installerImage(dist: string): Uint8Array {
  const read = (path: string) => Deno.readFileSync(path);
  const libraries = filesBelow(`${dist}/kuma-cni.lib`);
  const busybox = read("/bin/busybox");
  const loader = (path: string) => path.includes("/ld-linux");
  return ociImage(installerReference, ["/install-cni"], [
    ...["busybox", "sh", "cat", "sleep"].map((name) => ({ path: `/bin/${name}`, data: busybox })),
    { path: "/install-cni", data: read(`${dist}/install-cni`) },
    { path: "/opt/cni/bin/kuma-cni", data: read(`${dist}/kuma-cni`) },
    ...libraries.flatMap((path) => {
      const data = read(path);
      const name = path.slice(path.lastIndexOf("/") + 1);
      const folder = loader(path) ? "/lib64" : "/lib/x86_64-linux-gnu";
      return [
        { path: `/opt/cni/bin/${path.slice(dist.length + 1)}`, data },
        { path: `${folder}/${name}`, data },
      ];
    }),
  ]);
}

function filesBelow(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory ? filesBelow(`${folder}/${name}`) : [`${folder}/${name}`]
  );
}
