/**
 * The objects that Kuma's chart renders for its CNI, field by field, with the image of this build:
 * whoever replaces the reference's image by ours gets these.
 */
import { billedImage } from "../../scripts/image.ts";
import { ownArchitecture } from "../../scripts/package/architecture.ts";
import { imageArchive } from "../../scripts/package/oci.ts";
import { readPrograms } from "../../scripts/package/programs.ts";

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
  /** `cni.chained`; true unless told. */
  readonly chained?: boolean;
  /** Added to `cni.containerSecurityContext`. */
  readonly containerSecurityContext?: Readonly<Record<string, unknown>>;
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
              ...values.containerSecurityContext,
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
              { name: "CHAINED_CNI_PLUGIN", value: String(values.chained ?? true) },
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

let image: Promise<Uint8Array> | undefined;

/**
 * Makes the image, as `deno task image` does, once for a process.
 *
 * @param dist Folder of the built programs.
 */
export function installerImage(dist: string): Promise<Uint8Array> {
  return image ??= makeInstallerImage(dist);
}

async function makeInstallerImage(dist: string): Promise<Uint8Array> {
  const { image } = await billedImage(ownArchitecture, await readPrograms(dist));
  return imageArchive(installerReference, [image]);
}
