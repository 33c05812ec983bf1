/**
 * Each value, declared once: name, kind, default, help, and where it goes. Parsing, checking,
 * `--help`, `values.yaml`, `values.schema.json` and `docs/values.md` come from here.
 *
 * Names and defaults are those of Kuma's chart where it has the value; `docs/differences.md` says
 * where a default is not the same.
 */
import {
  anyMapping,
  countOrPercentage,
  type Kind,
  label,
  listOf,
  oneOf,
  optionalLabel,
  path,
  text,
  textLike,
  truth,
  wholeNumber,
} from "./kinds.ts";
import {
  addresses,
  affinity,
  containerSecurity,
  namespacePatterns,
  namespaces,
  podSecurity,
  resources,
  textMapping,
  tolerations,
} from "./kubernetes_kinds.ts";

/** Declaration of one value. */
export interface ValueDeclaration<T = unknown> {
  readonly kind: Kind<T>;
  readonly default: T;
  /** One sentence for people. */
  readonly help: string;
  /** Where it ends up: an object and its field, or another program. */
  readonly goesTo: string;
  /** kumactl's flag for it, if it has one. */
  readonly flag?: string;
}

function value<T>(
  kind: Kind<T>,
  preset: NoInfer<T>,
  help: string,
  goesTo: string,
  flag?: string,
): ValueDeclaration<T> {
  return { kind, default: preset, help, goesTo, ...(flag === undefined ? {} : { flag }) };
}

/** Where values go that this program has no object for. */
export const elsewhere = "the control plane's chart; nothing here";

const registry = textLike(
  "a registry, such as registry.example:5000/mesh, or nothing",
  "^[A-Za-z0-9._:/-]*$",
);
const tag = textLike(
  "an image tag, or nothing",
  "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$",
);
const confName = textLike(
  "a file name ending in .conf, .conflist or .json, or nothing",
  "^([^/\\x00-\\x1f]+\\.(conf|conflist|json))?$",
);
const duration = textLike("a duration, such as 30s", "^[1-9][0-9]*(ms|s|m|h)$");

/** All values by their full name, in the order of the documentation. */
export const valueDeclarations = {
  "cni.enabled": value(
    truth,
    true,
    "Whether there are any objects at all",
    "all objects",
    "--cni-enabled",
  ),
  "cni.chained": value(
    truth,
    false,
    "Whether to chain to the list of another network plugin; false: a file of our own, for Multus",
    "DaemonSet: CHAINED_CNI_PLUGIN",
    "--cni-chained",
  ),
  "cni.netDir": value(
    path,
    "/etc/cni/multus/net.d",
    "Folder of the network configuration on the host",
    "DaemonSet: volume cni-net-dir, CNI_NET_DIR",
    "--cni-net-dir",
  ),
  "cni.binDir": value(
    path,
    "/var/lib/cni/bin",
    "Folder of the runtime's network plugins on the host",
    "DaemonSet: volume cni-bin-dir; ConfigMap: kubernetes.cni_bin_dir",
    "--cni-bin-dir",
  ),
  "cni.confName": value(
    confName,
    "kuma-cni.conf",
    "File in netDir to chain to, or to write when not chained; nothing: the one that the runtime loads",
    "DaemonSet: CNI_CONF_NAME",
    "--cni-conf-name",
  ),
  "cni.confNameIsLoaded": value(
    truth,
    false,
    "Whether you know that pods go through the file of confName; true: other files do not count",
    "DaemonSet: CNI_CONF_NAME_IS_LOADED",
  ),
  "cni.runtime": value(
    oneOf("auto", "containerd", "cri-o", "multus"),
    "auto",
    "Program that chooses among the files of netDir; auto: what hostFolders show, else containerd",
    "DaemonSet: CNI_RUNTIME",
  ),
  "cni.hostFolders": value(
    listOf(path, "a list of absolute paths, such as /etc/containerd"),
    [],
    "Folders of the host to see, read-only: those of the runtime's configuration, and libcni's cache; " +
      "they must be there",
    "DaemonSet: volumes below /host",
  ),
  "cni.logLevel": value(
    oneOf("off", "info", "debug"),
    "info",
    "What install-cni and the plugin log",
    "DaemonSet: CNI_LOG_LEVEL; ConfigMap: log_level",
  ),
  "cni.logFormat": value(
    oneOf("text", "json"),
    "text",
    "Form of the log lines: text as of the reference, or a JSON object for each",
    "DaemonSet: CNI_LOG_FORMAT",
  ),
  "cni.engine": value(
    oneOf("auto", "nftables", "iptables", "ebpf"),
    "auto",
    "What installs the rules in a pod",
    "ConfigMap: engine",
  ),
  "cni.ebpf.strict": value(
    truth,
    false,
    "Whether a pod that the engine ebpf cannot serve fails instead of getting other rules",
    "ConfigMap: ebpf.strict",
  ),
  "cni.ebpf.allowPods": value(
    truth,
    false,
    "Whether a pod may ask for the engine ebpf by the annotation kuma.io/transparent-proxying-ebpf",
    "ConfigMap: allow_pod_settings; DaemonSet",
  ),
  "cni.excludeNamespaces": value(
    namespacePatterns,
    [],
    "Namespaces whose pods are skipped without a look-up, besides kube-system and cni.namespace",
    "ConfigMap: kubernetes.exclude_namespaces",
  ),
  "cni.clusterDns": value(
    addresses,
    [],
    "The cluster's DNS servers, as kubelet's clusterDNS, for runtimes that do not tell a pod's resolvers",
    "ConfigMap: kubernetes.cluster_dns",
  ),
  "cni.namespace": value(
    label,
    "kube-system",
    "Namespace of the objects",
    "all objects: metadata.namespace",
  ),
  "cni.nodeSelector": value(
    textMapping,
    { "kubernetes.io/os": "linux" },
    "Nodes to run on",
    "DaemonSet: nodeSelector",
    "--cni-node-selector",
  ),
  "cni.tolerations": value(
    tolerations,
    [],
    "Tolerations besides the three that let it run on every node",
    "DaemonSet: tolerations",
  ),
  "cni.podAnnotations": value(
    textMapping,
    {},
    "Annotations of the pods",
    "DaemonSet: template.metadata.annotations",
  ),
  "cni.affinity": value(affinity, {}, "Affinity of the pods", "DaemonSet: affinity"),
  "cni.priorityClassName": value(
    text,
    "system-node-critical",
    "Priority class of the pods; nothing: none",
    "DaemonSet: priorityClassName",
  ),
  "cni.restartPolicy": value(
    oneOf("Always"),
    "Always",
    "The one restart policy that the pods of a DaemonSet may have",
    "DaemonSet: restartPolicy",
  ),
  "cni.maxUnavailable": value(
    countOrPercentage,
    1,
    "Nodes whose pod may be away during an update; the plugin works there meanwhile",
    "DaemonSet: updateStrategy.rollingUpdate.maxUnavailable",
  ),
  "cni.image.registry": value(
    registry,
    "",
    "Registry of the image; nothing: global.image.registry",
    "DaemonSet: image",
  ),
  "cni.image.repository": value(
    textLike("an image's name without registry and tag", "^[a-z0-9]+([._/-]+[a-z0-9]+)*$"),
    "kuma-cni",
    "Name of the image",
    "DaemonSet: image",
  ),
  "cni.image.tag": value(
    tag,
    "",
    "Tag of the image; nothing: global.image.tag",
    "DaemonSet: image",
  ),
  "cni.image.imagePullPolicy": value(
    oneOf("IfNotPresent", "Always", "Never"),
    "IfNotPresent",
    "When the image is pulled",
    "DaemonSet: imagePullPolicy",
  ),
  "cni.delayStartupSeconds": value(
    wholeNumber(0, 3600),
    0,
    "Seconds to sleep before it starts; for tests of a late start",
    "DaemonSet: command, readinessProbe",
  ),
  "cni.healthPort": value(
    wholeNumber(0, 65_535),
    0,
    "Port of health and metrics in the pod; 0: none, and readiness is the ready file",
    "DaemonSet: HEALTH_PORT, probes",
  ),
  "cni.resources": value(
    resources,
    { requests: { cpu: "100m", memory: "100Mi" }, limits: { memory: "100Mi" } },
    "Requests and limits of the container",
    "DaemonSet: resources",
  ),
  "cni.podSecurityContext": value(
    podSecurity,
    {},
    "Security context of the pods",
    "DaemonSet: securityContext of the pod",
  ),
  "cni.containerSecurityContext": value(
    containerSecurity,
    {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      readOnlyRootFilesystem: true,
      runAsGroup: 0,
      runAsNonRoot: false,
      runAsUser: 0,
      seccompProfile: { type: "RuntimeDefault" },
    },
    "Security context of the container; docs/security.md says which host needs more",
    "DaemonSet: securityContext of the container",
  ),
  "cni.shim.capabilities": value(
    truth,
    false,
    "Whether the agent may enter meshed pods' network namespaces, so that they start as fast as others",
    "DaemonSet: securityContext of the container, SYS_ADMIN and NET_ADMIN; docs/security.md",
  ),
  "cni.rbac.watchPods": value(
    truth,
    false,
    "Whether it may list and watch pods, to answer the plugin from memory",
    "ClusterRole: pods list, watch",
  ),
  "cni.rbac.getDaemonSets": value(
    truth,
    false,
    "Whether it may get DaemonSets, to tell a removal for good from a restart",
    "ClusterRole: daemonsets get",
  ),
  "cni.shim.enabled": value(
    truth,
    true,
    "Whether runtimes start the shim, which has the agent answer calls; false: the plugin each time",
    "DaemonSet: SHIM",
  ),
  "cni.repair.enterPods": value(
    truth,
    false,
    "Whether install-cni may enter the network namespaces of running pods, to compare their rules",
    "DaemonSet: capabilities SYS_ADMIN and NET_ADMIN, the host's /run/netns; ClusterRole: events create",
  ),
  "cni.repair.sweepSeconds": value(
    wholeNumber(0, 86_400),
    600,
    "Seconds in which the rules of every running pod are compared once; 0: never",
    "DaemonSet: SWEEP_INTERVAL",
  ),
  "cni.repair.drift": value(
    oneOf("report", "repair"),
    "report",
    "What is done about rules of a running pod that were changed",
    "DaemonSet: REPAIR",
  ),
  "cni.repair.earlyPods": value(
    oneOf("off", "waiting", "always"),
    "off",
    "Whether meshed pods that started without the plugin get their rules: while their sidecar is not " +
      "ready, or always; with it come the rights of cni.repair.enterPods and cni.rbac.watchPods",
    "DaemonSet: REPAIR_EARLY_PODS, hostPID, capability SYS_PTRACE",
  ),
  "cni.uninstall.onStop": value(
    truth,
    false,
    "Whether it takes the plugin off the host whenever it is stopped: set it before removing all for good",
    "DaemonSet: KUMA_CNI_UNINSTALL",
  ),
  "cni.uninstall.whenRefused": value(
    truth,
    false,
    "Whether losing the right to read its own pod counts as being removed, as when all objects go at once",
    "DaemonSet: KUMA_CNI_UNINSTALL_WHEN_REFUSED",
  ),
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
  "cni.controller.enabled": value(
    truth,
    false,
    "Whether there is a controller of our own, for clusters whose control plane has none",
    "the controller's Deployment, account and rights",
  ),
  "cni.controller.replicas": value(
    wholeNumber(1, 5),
    2,
    "Replicas of the controller; one acts, the others wait",
    "Deployment: replicas",
  ),
  "cni.controller.healthPort": value(
    wholeNumber(1, 65_535),
    9911,
    "Port of the controller's health and metrics",
    "Deployment: HEALTH_PORT, probes",
  ),
  "cni.controller.resources": value(
    resources,
    { requests: { cpu: "50m", memory: "128Mi" }, limits: { memory: "256Mi" } },
    "Requests and limits of the controller",
    "Deployment: resources",
  ),
  "cni.controller.nodeSelector": value(
    textMapping,
    { "kubernetes.io/os": "linux" },
    "Nodes for the controller",
    "Deployment: nodeSelector",
  ),
  "cni.controller.tolerations": value(
    tolerations,
    [],
    "Tolerations besides those for our own taint, the control plane's and CriticalAddonsOnly",
    "Deployment: tolerations",
  ),
  "cni.controller.priorityClassName": value(
    text,
    "system-cluster-critical",
    "Priority class of the controller; nothing: none",
    "Deployment: priorityClassName",
  ),
  "cni.taintController.enabled": value(
    truth,
    true,
    "Whether the controller keeps pods off nodes where install-cni is not ready; without " +
      "cni.controller.enabled that is the control plane's work",
    "Deployment: KUMA_RUNTIME_KUBERNETES_NODE_TAINT_CONTROLLER_ENABLED",
  ),
  "cni.taintController.key": value(
    textLike(
      "a taint's key, such as NodeReadiness or kuma.io/cni-not-ready",
      "^([a-z0-9][-a-z0-9.]{0,251}/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$",
    ),
    "NodeReadiness",
    "Key of the taint; Kuma's own controller knows this one alone",
    "Deployment: KUMA_CNI_TAINT_KEY, tolerations",
  ),
  "cni.taintController.effect": value(
    oneOf("NoSchedule", "PreferNoSchedule", "NoExecute"),
    "NoSchedule",
    "Effect of the taint",
    "Deployment: KUMA_CNI_TAINT_EFFECT",
  ),
  "cni.taintController.graceSeconds": value(
    wholeNumber(0, 86_400),
    60,
    "Seconds without a ready CNI pod before a node that had one gets the taint",
    "Deployment: KUMA_CNI_TAINT_GRACE",
  ),
  "cni.taintController.agentMayRemove": value(
    truth,
    false,
    "Whether install-cni may take the taint from its own node when no controller does; its account " +
      "may then change every node",
    "DaemonSet: KUMA_CNI_REMOVE_OWN_TAINT; ClusterRole: nodes get, patch",
  ),
  "cni.attachmentController.enabled": value(
    truth,
    true,
    "Whether the controller makes NetworkAttachmentDefinitions in namespaces with Kuma's label, where " +
      "the cluster knows that kind",
    "Deployment: KUMA_CNI_ATTACHMENT_CONTROLLER_ENABLED; ClusterRole",
  ),
  "cni.experimental": value(
    anyMapping,
    {},
    "Image of another program that Kuma's chart can run instead; not used",
    elsewhere,
  ),
  "global.image.registry": value(
    registry,
    "localhost",
    "Registry of the image, unless cni.image.registry names one; localhost: an imported archive",
    "DaemonSet: image",
  ),
  "global.image.tag": value(
    tag,
    "",
    "Tag of the image, unless cni.image.tag names one; nothing: this version",
    "DaemonSet: image",
  ),
  "global.imagePullSecrets": value(
    listOf(text, "a list of names of secrets"),
    [],
    "Secrets to pull the image with",
    "ServiceAccount: imagePullSecrets",
  ),
  "nameOverride": value(
    optionalLabel,
    "",
    "Takes the place of kuma in names and labels of all objects",
    "all objects: metadata",
  ),
  "instance": value(
    label,
    "kuma",
    "Label app.kubernetes.io/instance, which the DaemonSet selects by; of a DaemonSet that is there, it " +
      "cannot be changed",
    "all objects: labels",
  ),
  "skipRBAC": value(
    truth,
    false,
    "Whether to leave out roles and bindings, for those who make them by hand",
    "ClusterRole, bindings",
  ),
  "namespaceAllowList": value(
    namespaces,
    [],
    "Namespaces of the mesh: pods of all others are skipped, and no right covers them; empty: all",
    "RoleBindings; ConfigMap: kubernetes.include_namespaces",
  ),
  "controlPlane": value(anyMapping, {}, "Values of the control plane", elsewhere),
  "transparentProxy": value(anyMapping, {}, "Values of the control plane", elsewhere),
  "experimental.ebpf.enabled": value(
    truth,
    false,
    "Whether the engine is ebpf; as cni.engine=ebpf",
    "ConfigMap: engine; DaemonSet",
  ),
  "experimental.ebpf.bpffsPath": value(
    path,
    "/sys/fs/bpf",
    "Host path of the BPF file system in which the engine ebpf pins",
    "ConfigMap: ebpf.bpffs_path; DaemonSet: volume bpffs",
  ),
  "experimental.ebpf.cgroupPath": value(
    path,
    "/sys/fs/cgroup",
    "Host path at or below which the engine ebpf finds the cgroups of pods",
    "ConfigMap: ebpf.cgroup_path",
  ),
  "experimental.ebpf.instanceIPEnvVarName": value(
    text,
    "INSTANCE_IP",
    "Of Kuma 2.14 and earlier; not used, the addresses of a pod are those of its namespace",
    "nothing",
  ),
  "experimental.ebpf.tcAttachIface": value(
    text,
    "",
    "Of Kuma 2.14 and earlier; not used, nothing is attached to an interface",
    "nothing",
  ),
  "experimental.ebpf.programsSourcePath": value(
    text,
    "/tmp/kuma-ebpf",
    "Of Kuma 2.14 and earlier; not used, the plugin brings its programs",
    "nothing",
  ),
  "experimental.sidecarContainers": value(
    truth,
    false,
    "Native sidecars of Kuma 2.7 to 2.14",
    elsewhere,
  ),
} as const;

/** Full name of a value. */
export type ValueName = keyof typeof valueDeclarations;

/** What a value is in TypeScript. */
export type ValueOf<N extends ValueName> = (typeof valueDeclarations)[N] extends
  ValueDeclaration<infer T> ? T : never;

/** Returns name and declaration of all values. */
export function declaredValues(): readonly (readonly [ValueName, ValueDeclaration])[] {
  return Object.entries(valueDeclarations) as [ValueName, ValueDeclaration][];
}
