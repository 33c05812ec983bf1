/**
 * Pods in the JSON form of the Kubernetes v1 API, shaped as the API server returns them and, for
 * meshed ones, as the Kuma injector writes them.
 */

/** What every Kubernetes object has; the rest is free. */
export interface KubernetesObject {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

/** The metadata that the tests use. */
export interface ObjectMeta {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string> | null;
  [field: string]: unknown;
}

/** A container in a pod's specification; only what the tests read or change is named. */
export interface ContainerObject {
  name: string;
  image: string;
  [field: string]: unknown;
}

/** A v1 Pod. */
export interface PodObject extends KubernetesObject {
  spec: {
    containers: ContainerObject[];
    initContainers?: ContainerObject[];
    nodeName?: string;
    [field: string]: unknown;
  };
}

/** Choices that all pods have. */
export interface PodOptions {
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
  readonly nodeName?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Added to, and winning over, the annotations that the pod would have. */
  readonly annotations?: Readonly<Record<string, string>>;
  /** Adds an annotation of that many bytes, to make the pod large. */
  readonly padBytes?: number;
}

/** Choices of a meshed pod. */
export interface InjectedPodOptions extends PodOptions {
  /**
   * `2.9`: one annotation per setting, the default of Kuma 2.9; `3`: the one annotation
   * `traffic.kuma.io/transparent-proxy-config` of Kuma 3.x (and of 2.11+ with a ConfigMap).
   */
  readonly form?: "2.9" | "3";
  /** The sidecar is an init container with `restartPolicy: Always`. */
  readonly nativeSidecar?: boolean;
  /** The pod is a gateway: no inbound redirection, no validation container. */
  readonly gateway?: boolean;
  /** `kuma-init` instead of a CNI: the injector ran with the CNI switched off. */
  readonly initContainer?: boolean;
  readonly ipFamilyMode?: "dualstack" | "ipv4";
}

const created = "2026-01-15T09:30:00Z";

/** A pod that the mesh has nothing to do with. */
export function plainPod(options: PodOptions = {}): PodObject {
  const name = options.name ?? "plain-1";
  const annotations = {
    ...(options.padBytes === undefined
      ? {}
      : { "example.com/padding": "x".repeat(options.padBytes) }),
    ...options.annotations,
  };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace: options.namespace ?? "demo",
      uid: options.uid ?? crypto.randomUUID(),
      creationTimestamp: created,
      labels: { app: name, ...options.labels },
      ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
      managedFields: [
        {
          manager: "kube-controller-manager",
          operation: "Update",
          apiVersion: "v1",
          time: created,
          fieldsType: "FieldsV1",
          fieldsV1: { "f:spec": { "f:containers": { 'k:{"name":"app"}': { "f:image": {} } } } },
        },
      ],
    },
    spec: {
      volumes: [
        { name: "kube-api-access-7xk2p", projected: { sources: [], defaultMode: 420 } },
      ],
      containers: [appContainer()],
      restartPolicy: "Always",
      terminationGracePeriodSeconds: 30,
      dnsPolicy: "ClusterFirst",
      serviceAccountName: "default",
      nodeName: options.nodeName ?? "node-1",
      securityContext: {},
      schedulerName: "default-scheduler",
      tolerations: [
        {
          key: "node.kubernetes.io/not-ready",
          operator: "Exists",
          effect: "NoExecute",
          tolerationSeconds: 300,
        },
      ],
      enableServiceLinks: true,
    },
    status: {
      phase: "Pending",
      conditions: [
        { type: "PodScheduled", status: "True", lastProbeTime: null, lastTransitionTime: created },
      ],
      qosClass: "Burstable",
    },
  };
}

/** A pod as the Kuma injector leaves it, by default that of Kuma 2.9 with the CNI enabled. */
export function injectedPod(options: InjectedPodOptions = {}): PodObject {
  const gateway = options.gateway ?? false;
  const pod = plainPod({ ...options, name: options.name ?? "app-1", annotations: {} });
  pod.metadata.labels = { ...pod.metadata.labels, "kuma.io/mesh": "default" };
  pod.metadata.annotations = {
    "kubectl.kubernetes.io/default-container": "app",
    ...(options.form === "3" ? configAnnotations(options) : settingAnnotations(options)),
    ...pod.metadata.annotations,
    ...options.annotations,
  };
  const sidecar = sidecarContainer(options.nativeSidecar ?? false);
  const first = options.initContainer
    ? [initContainer()]
    : gateway
    ? []
    : [validationContainer(options)];
  if (options.nativeSidecar) {
    pod.spec.initContainers = [...first, sidecar];
  } else {
    if (first.length > 0) pod.spec.initContainers = first;
    pod.spec.containers = [sidecar, ...pod.spec.containers];
  }
  pod.spec.volumes = [
    ...pod.spec.volumes as unknown[],
    { name: "kuma-init-tmp", emptyDir: { sizeLimit: "10M" } },
    { name: "kuma-sidecar-tmp", emptyDir: { sizeLimit: "10M" } },
    ...(options.form === "3" ? [transparentProxyVolume()] : []),
  ];
  return pod;
}

/** A gateway that delegates to a meshed pod (`kuma.io/gateway: enabled`): no inbound redirection. */
export function gatewayPod(options: InjectedPodOptions = {}): PodObject {
  return injectedPod({ ...options, name: options.name ?? "gateway-1", gateway: true });
}

/** A builtin gateway: its only container is `kuma-gateway`, so there is nothing to redirect. */
export function builtinGatewayPod(options: PodOptions = {}): PodObject {
  const pod = plainPod({ ...options, name: options.name ?? "edge-gateway-1" });
  pod.metadata.annotations = { "kuma.io/gateway": "builtin", ...pod.metadata.annotations };
  pod.spec.containers = [{
    ...sidecarContainer(false),
    name: "kuma-gateway",
  }];
  return pod;
}

/** A meshed pod whose rules an init container installs: the injector ran without the CNI. */
export function initContainerPod(options: InjectedPodOptions = {}): PodObject {
  return injectedPod({ ...options, name: options.name ?? "legacy-1", initContainer: true });
}

/** A meshed pod whose sidecar is a native sidecar container. */
export function nativeSidecarPod(options: InjectedPodOptions = {}): PodObject {
  return injectedPod({ ...options, name: options.name ?? "native-1", nativeSidecar: true });
}

/**
 * The API's mirror of a static pod: its own UID differs from the one that the runtime knows, which
 * is `hash` (32 hexadecimal digits, kubelet's hash of the manifest file).
 */
export function mirrorPod(hash: string, options: PodOptions = {}): PodObject {
  const pod = plainPod({
    ...options,
    namespace: options.namespace ?? "kube-system",
    name: options.name ?? "kube-proxy-node-1",
  });
  pod.metadata.annotations = {
    "kubernetes.io/config.hash": hash,
    "kubernetes.io/config.mirror": hash,
    "kubernetes.io/config.seen": "2026-01-15T09:29:58.123456789Z",
    "kubernetes.io/config.source": "file",
    ...pod.metadata.annotations,
  };
  pod.metadata.ownerReferences = [{
    apiVersion: "v1",
    kind: "Node",
    name: options.nodeName ?? "node-1",
    uid: "3f2b8c1e-6d4a-4c7e-9c53-1f0e2d7b8a90",
    controller: true,
  }];
  return pod;
}

/** What the Kuma 2.9 injector writes without a ConfigMap. */
function settingAnnotations(options: InjectedPodOptions): Record<string, string> {
  const gateway = options.gateway ?? false;
  return {
    "kuma.io/sidecar-injected": "true",
    ...(options.initContainer ? {} : { "k8s.v1.cni.cncf.io/networks": "kuma-cni" }),
    ...(gateway ? { "kuma.io/gateway": "enabled" } : {}),
    "kuma.io/transparent-proxying": "enabled",
    "kuma.io/sidecar-uid": "5678",
    "kuma.io/transparent-proxying-outbound-port": "15001",
    "kuma.io/transparent-proxying-inbound-port": "15006",
    "kuma.io/transparent-proxying-ip-family-mode": options.ipFamilyMode ?? "dualstack",
    "kuma.io/builtin-dns": "enabled",
    "kuma.io/builtin-dns-port": "15053",
    "kuma.io/builtin-dns-logging": "false",
    "kuma.io/application-probe-proxy-port": gateway ? "0" : "9001",
    "kuma.io/virtual-probes": gateway ? "disabled" : "enabled",
    "kuma.io/virtual-probes-port": "9000",
    "kuma.io/envoy-admin-port": "9901",
  };
}

/** What the Kuma 3.x injector writes. */
function configAnnotations(options: InjectedPodOptions): Record<string, string> {
  return {
    "kuma.io/sidecar-injected": "true",
    "traffic.kuma.io/transparent-proxy-config": transparentProxyConfig(options),
    ...(options.initContainer ? {} : { "k8s.v1.cni.cncf.io/networks": "kuma-cni" }),
    "kuma.io/application-probe-proxy-port": options.gateway ? "0" : "9001",
    "kuma.io/envoy-admin-port": "9901",
  };
}

function transparentProxyConfig(options: InjectedPodOptions): string {
  const inbound = options.gateway ? ["    enabled: false", "    port: 15006"] : [
    "    enabled: true",
    "    excludePorts:",
    "    - 9001",
    "    - 9902",
    "    port: 15006",
  ];
  return [
    ...(options.initContainer ? [] : ["cniMode: true"]),
    `ipFamilyMode: ${options.ipFamilyMode ?? "dualstack"}`,
    'kumaDPUser: "5678"',
    "redirect:",
    "  dns:",
    "    captureAll: true",
    "    enabled: true",
    "    port: 15053",
    "    resolvConfigPath: /etc/resolv.conf",
    "    skipConntrackZoneSplit: false",
    "  inbound:",
    ...inbound,
    "  outbound:",
    "    enabled: true",
    "    port: 15001",
    "retry:",
    "  maxRetries: 4",
    "  sleepBetweenRetries: 2s",
    "wait: 5",
    "waitInterval: 0",
    "",
  ].join("\n");
}

function appContainer(): ContainerObject {
  return {
    name: "app",
    image: "registry.example.com/demo/app:1.4.2",
    ports: [{ name: "http", containerPort: 8080, protocol: "TCP" }],
    resources: { requests: { cpu: "50m", memory: "64Mi" } },
    volumeMounts: [{
      name: "kube-api-access-7xk2p",
      readOnly: true,
      mountPath: "/var/run/secrets/kubernetes.io/serviceaccount",
    }],
    imagePullPolicy: "IfNotPresent",
  };
}

function sidecarContainer(native: boolean): ContainerObject {
  return {
    name: "kuma-sidecar",
    image: "docker.io/kumahq/kuma-dp:2.9.13",
    args: ["run", "--log-level=info", "--concurrency=2"],
    ...(native ? { restartPolicy: "Always" } : {}),
    env: [
      { name: "INSTANCE_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
      { name: "KUMA_CONTROL_PLANE_URL", value: "https://kuma-control-plane.kuma-system:5678" },
      { name: "KUMA_DNS_ENABLED", value: "true" },
    ],
    resources: {
      limits: { cpu: "1", memory: "512Mi" },
      requests: { cpu: "50m", memory: "64Mi" },
    },
    securityContext: {
      runAsUser: 5678,
      runAsGroup: 5678,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      readOnlyRootFilesystem: true,
    },
    volumeMounts: [{ name: "kuma-sidecar-tmp", mountPath: "/tmp" }],
  };
}

function validationContainer(options: InjectedPodOptions): ContainerObject {
  return {
    name: "kuma-validation",
    image: "docker.io/kumahq/kuma-init:2.9.13",
    command: ["/usr/bin/kumactl", "install", "transparent-proxy-validator"],
    args: options.form === "3"
      ? [
        "--config-file=/tmp/.kumactl",
        "--transparent-proxy-config=/tmp/transparent-proxy/base/config.yaml",
      ]
      : [
        "--config-file",
        "/tmp/.kumactl",
        "--ip-family-mode",
        options.ipFamilyMode ?? "dualstack",
        "--validation-server-port",
        "15006",
      ],
    resources: {
      limits: { cpu: "100m", memory: "50M" },
      requests: { cpu: "20m", memory: "20M" },
    },
    securityContext: {
      runAsUser: 5678,
      runAsGroup: 5678,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      readOnlyRootFilesystem: true,
    },
    volumeMounts: [{ name: "kuma-sidecar-tmp", mountPath: "/tmp" }],
  };
}

function initContainer(): ContainerObject {
  return {
    name: "kuma-init",
    image: "docker.io/kumahq/kuma-init:2.9.13",
    command: ["/usr/bin/kumactl", "install", "transparent-proxy"],
    args: ["--config-file", "/tmp/.kumactl", "--redirect-outbound-port", "15001"],
    securityContext: {
      runAsUser: 0,
      runAsGroup: 0,
      capabilities: { add: ["NET_ADMIN", "NET_RAW"], drop: ["ALL"] },
    },
    volumeMounts: [{ name: "kuma-init-tmp", mountPath: "/tmp" }],
  };
}

function transparentProxyVolume(): Record<string, unknown> {
  return {
    name: "transparent-proxy-base",
    downwardAPI: {
      items: [{
        path: "config.yaml",
        fieldRef: {
          apiVersion: "v1",
          fieldPath: "metadata.annotations['traffic.kuma.io/transparent-proxy-config']",
        },
      }],
    },
  };
}
