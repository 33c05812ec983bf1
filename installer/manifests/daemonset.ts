/** The DaemonSet that runs install-cni on the nodes. */
import { isRecord } from "../../src/json/record.ts";
import type { KubernetesObject, Names } from "./objects.ts";
import { usesEbpf } from "./network_config.ts";
import { mayEnterPods } from "./rights.ts";
import type { Tree } from "./tree.ts";
import type { Values } from "./values.ts";

/** What the DaemonSet takes from the other objects. */
export interface DaemonSetFacts {
  readonly image: string;
  /** Hash of the plugin's configuration: pods are replaced when it changes. */
  readonly checksum: string;
}

/** Profiles of AppArmor deny writing below the container's own /sys. */
const MOUNTED_BPFFS = "/host/sys/fs/bpf";

/** Programs are found by the control group that they are at; a container sees only its own ones. */
function seesCgroups(values: Values): boolean {
  return usesEbpf(values) && mayEnterPods(values);
}

/** Makes the DaemonSet; its name and its selector may never change. */
export function daemonSet(values: Values, names: Names, facts: DaemonSetFacts): KubernetesObject {
  const { namespace, cni, labels } = names;
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: {
      name: `${cni}-node`,
      namespace,
      labels,
      annotations: {
        "ignore-check.kube-linter.io/run-as-non-root":
          "install-cni writes files of root on the host, without any capability",
      },
    },
    spec: {
      selector: { matchLabels: labels },
      updateStrategy: {
        type: "RollingUpdate",
        rollingUpdate: { maxUnavailable: values.get("cni.maxUnavailable") },
      },
      template: {
        metadata: {
          labels,
          annotations: { "checksum/config": facts.checksum, ...values.get("cni.podAnnotations") },
        },
        spec: podSpec(values, names, facts),
      },
    },
  };
}

function podSpec(values: Values, names: Names, facts: DaemonSetFacts): Tree {
  return {
    serviceAccountName: names.cni,
    // Whose a network namespace is only its processes prove.
    ...(values.get("cni.repair.earlyPods") === "off" ? {} : { hostPID: true }),
    automountServiceAccountToken: true,
    ...unlessEmpty("priorityClassName", values.get("cni.priorityClassName")),
    ...unlessEmpty("nodeSelector", values.get("cni.nodeSelector")),
    ...unlessEmpty("affinity", values.get("cni.affinity")),
    tolerations: [
      { effect: "NoSchedule", operator: "Exists" },
      { key: "CriticalAddonsOnly", operator: "Exists" },
      { effect: "NoExecute", operator: "Exists" },
      ...values.get("cni.tolerations"),
    ],
    restartPolicy: values.get("cni.restartPolicy"),
    terminationGracePeriodSeconds: 5,
    ...unlessEmpty("securityContext", values.get("cni.podSecurityContext")),
    containers: [container(values, names, facts)],
    volumes: [
      {
        name: "cni-bin-dir",
        hostPath: { path: values.get("cni.binDir"), type: "Directory" },
      },
      {
        name: "cni-net-dir",
        hostPath: { path: values.get("cni.netDir"), type: netDirType(values) },
      },
      { name: "tmp", emptyDir: {} },
      ...(mayEnterPods(values)
        ? [{ name: "netns", hostPath: { path: "/run/netns", type: "DirectoryOrCreate" } }]
        : []),
      ...(usesEbpf(values)
        ? [{
          name: "bpffs",
          hostPath: { path: values.get("experimental.ebpf.bpffsPath"), type: "Directory" },
        }]
        : []),
      ...(seesCgroups(values)
        ? [{
          name: "cgroups",
          hostPath: { path: values.get("experimental.ebpf.cgroupPath"), type: "Directory" },
        }]
        : []),
      ...values.get("cni.hostFolders").map((path, i) => ({
        name: `host-folder-${i}`,
        hostPath: { path, type: "Directory" },
      })),
    ],
  };
}

/** A folder that another plugin's list is in must be there; a folder for our own file can be made. */
function netDirType(values: Values): string {
  return values.get("cni.chained") ? "Directory" : "DirectoryOrCreate";
}

function container(values: Values, names: Names, facts: DaemonSetFacts): Tree {
  const delay = values.get("cni.delayStartupSeconds");
  const port = values.get("cni.healthPort");
  return {
    name: "install-cni",
    image: facts.image,
    imagePullPolicy: values.get("cni.image.imagePullPolicy"),
    // The empty list takes away the reference's arguments when its DaemonSet is changed in place.
    ...(delay === 0
      ? { command: ["/install-cni"], args: [] }
      : { command: ["sh", "-c", "--"], args: [`sleep ${delay} && exec /install-cni`] }),
    env: environment(values, names),
    ...(port === 0 ? {} : { ports: [{ name: "health", containerPort: port, protocol: "TCP" }] }),
    ...probes(delay, port),
    ...unlessEmpty("resources", values.get("cni.resources")),
    ...unlessEmpty("securityContext", containerSecurity(values)),
    volumeMounts: [
      { name: "cni-bin-dir", mountPath: "/host/opt/cni/bin" },
      { name: "cni-net-dir", mountPath: "/host/etc/cni/net.d" },
      { name: "tmp", mountPath: "/tmp" },
      // The runtime mounts each pod's namespace there while this container runs.
      ...(mayEnterPods(values)
        ? [{
          name: "netns",
          mountPath: "/host/run/netns",
          readOnly: true,
          mountPropagation: "HostToContainer",
        }]
        : []),
      ...(usesEbpf(values) ? [{ name: "bpffs", mountPath: MOUNTED_BPFFS }] : []),
      ...(seesCgroups(values)
        ? [{
          name: "cgroups",
          mountPath: `/host${values.get("experimental.ebpf.cgroupPath")}`,
          readOnly: true,
        }]
        : []),
      ...values.get("cni.hostFolders").map((path, i) => ({
        name: `host-folder-${i}`,
        mountPath: `/host${path}`,
        readOnly: true,
      })),
    ],
  };
}

function environment(values: Values, { cni }: Names): Tree[] {
  const port = values.get("cni.healthPort");
  const runtime = values.get("cni.runtime");
  const logFormat = values.get("cni.logFormat");
  const sweep = values.get("cni.repair.sweepSeconds");
  const drift = values.get("cni.repair.drift");
  const earlyPods = values.get("cni.repair.earlyPods");
  const field = (name: string, fieldPath: string) => ({
    name,
    valueFrom: { fieldRef: { apiVersion: "v1", fieldPath } },
  });
  const unlessDefault = (name: string, isDefault: boolean, value: string) =>
    isDefault ? [] : [{ name, value }];
  return [
    { name: "CNI_CONF_NAME", value: values.get("cni.confName") },
    {
      name: "CNI_NETWORK_CONFIG",
      valueFrom: { configMapKeyRef: { name: `${cni}-config`, key: "cni_network_config" } },
    },
    { name: "CNI_NET_DIR", value: values.get("cni.netDir") },
    { name: "CHAINED_CNI_PLUGIN", value: String(values.get("cni.chained")) },
    { name: "CNI_LOG_LEVEL", value: values.get("cni.logLevel") },
    ...unlessDefault("CNI_LOG_FORMAT", logFormat === "text", logFormat),
    ...unlessDefault("CNI_RUNTIME", runtime === "auto", runtime),
    ...unlessDefault("CNI_CONF_NAME_IS_LOADED", !values.get("cni.confNameIsLoaded"), "true"),
    ...unlessDefault("SHIM", values.get("cni.shim.enabled"), "false"),
    ...unlessDefault("MOUNTED_BPFFS", !usesEbpf(values), MOUNTED_BPFFS),
    ...unlessDefault("KUMA_CNI_UNINSTALL", !values.get("cni.uninstall.onStop"), "true"),
    ...unlessDefault(
      "KUMA_CNI_UNINSTALL_WHEN_REFUSED",
      !values.get("cni.uninstall.whenRefused"),
      "true",
    ),
    ...unlessDefault("SWEEP_INTERVAL", sweep === 600, String(sweep)),
    ...unlessDefault("REPAIR", drift === "report", drift),
    ...unlessDefault("REPAIR_EARLY_PODS", earlyPods === "off", earlyPods),
    field("POD_NAME", "metadata.name"),
    field("POD_NAMESPACE", "metadata.namespace"),
    field("NODE_NAME", "spec.nodeName"),
    ...(values.get("cni.taintController.agentMayRemove")
      ? [
        { name: "KUMA_CNI_REMOVE_OWN_TAINT", value: "true" },
        { name: "KUMA_CNI_TAINT_KEY", value: values.get("cni.taintController.key") },
        { name: "KUMA_CNI_TAINT_EFFECT", value: values.get("cni.taintController.effect") },
      ]
      : []),
    ...unlessDefault("HEALTH_PORT", port === 0, String(port)),
    // The pod's own address is of the family that kubelet and Prometheus reach it by.
    ...(port === 0 ? [] : [field("HEALTH_ADDRESS", "status.podIP")]),
  ];
}

/** Without a port there is nothing to ask for liveness, only the file that says readiness. */
function probes(delay: number, port: number): Tree {
  if (port === 0) {
    return {
      readinessProbe: { exec: { command: ["cat", "/tmp/ready"] }, initialDelaySeconds: delay },
    };
  }
  const probe = (path: string) => ({
    httpGet: { path, port: "health", scheme: "HTTP" },
    initialDelaySeconds: delay,
    periodSeconds: 10,
    timeoutSeconds: 5,
  });
  return { livenessProbe: probe("/healthz"), readinessProbe: probe("/readyz") };
}

/** The API server refuses a privileged container that must not gain privileges. */
function containerSecurity(values: Values): Tree {
  const { allowPrivilegeEscalation, ...others } = values.get("cni.containerSecurityContext");
  if (others.privileged === true) return others;
  const security = allowPrivilegeEscalation === undefined
    ? others
    : { allowPrivilegeEscalation, ...others };
  const added = [
    // Kernels before 6.4 let nobody else look at a pin where unprivileged programs are switched off.
    ...(usesEbpf(values) ? ["BPF"] : []),
    // Not "CAP_SYS_ADMIN": the API server refuses that spelling without privilege escalation.
    ...(values.get("cni.shim.capabilities") || mayEnterPods(values)
      ? ["NET_ADMIN", "SYS_ADMIN"]
      : []),
    ...(values.get("cni.repair.earlyPods") === "off" ? [] : ["SYS_PTRACE"]),
  ];
  if (added.length === 0) return security;
  const capabilities = isRecord(others.capabilities) ? others.capabilities : {};
  const given = Array.isArray(capabilities.add) ? capabilities.add : [];
  return {
    ...security,
    capabilities: { ...capabilities, add: [...new Set([...given, ...added])] },
  };
}

function unlessEmpty(field: string, value: string | Tree | Readonly<Record<string, string>>): Tree {
  const isEmpty = typeof value === "string" ? value === "" : Object.keys(value).length === 0;
  return isEmpty ? {} : { [field]: value };
}
