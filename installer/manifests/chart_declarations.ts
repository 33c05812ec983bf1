/** Values of Kuma's chart around `cni`: image, names, namespaces, and what it has for eBPF. */
import { anyMapping, label, listOf, optionalLabel, path, text, truth } from "./kinds.ts";
import { namespaces } from "./kubernetes_kinds.ts";
import { elsewhere, registry, tag, value } from "./value_declaration.ts";

/** Those that Kuma's chart has for all of its parts. */
export const chartValues = {
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
    "ConfigMap: ebpf.cgroup_path; DaemonSet: volume cgroups, when running pods may be entered",
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
