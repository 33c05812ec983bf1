/** The plugin's configuration, as it stands in the ConfigMap. */
import type { Tree } from "./tree.ts";
import type { Values } from "./values.ts";

/** Namespaces that are never asked about: that of install-cni brings the token, so it needs none. */
export function excludedNamespaces(values: Values): string[] {
  const own = ["kube-system", values.get("cni.namespace")];
  return [...new Set([...own, ...values.get("cni.excludeNamespaces")])];
}

/** Whether the engine `ebpf` may come to work on a node. */
export function usesEbpf(values: Values): boolean {
  return engineOf(values) === "ebpf" || values.get("cni.ebpf.allowPods");
}

function engineOf(values: Values): string {
  return values.get("experimental.ebpf.enabled") ? "ebpf" : values.get("cni.engine");
}

/** Only what differs from the plugin's own defaults. */
function ebpfSection(values: Values): Tree {
  const bpffs = values.get("experimental.ebpf.bpffsPath");
  const cgroups = values.get("experimental.ebpf.cgroupPath");
  const section = {
    ...(bpffs === "/sys/fs/bpf" ? {} : { bpffs_path: bpffs }),
    ...(cgroups === "/sys/fs/cgroup" ? {} : { cgroup_path: cgroups }),
    ...(values.get("cni.ebpf.strict") ? { strict: true } : {}),
  };
  return usesEbpf(values) && Object.keys(section).length > 0 ? { ebpf: section } : {};
}

/** The plugin's configuration with install-cni's placeholders. */
export function networkConfig(values: Values): Tree {
  const engine = engineOf(values);
  const clusterDns = values.get("cni.clusterDns");
  const included = values.get("namespaceAllowList");
  return {
    ...(values.get("cni.ebpf.allowPods") ? { allow_pod_settings: ["ebpf.enabled"] } : {}),
    cniVersion: "0.3.1",
    ...ebpfSection(values),
    ...(engine === "auto" ? {} : { engine }),
    kubernetes: {
      ...(clusterDns.length === 0 ? {} : { cluster_dns: clusterDns }),
      cni_bin_dir: values.get("cni.binDir"),
      exclude_namespaces: excludedNamespaces(values),
      ...(included.length === 0 ? {} : { include_namespaces: included }),
      kubeconfig: "__KUBECONFIG_FILEPATH__",
    },
    log_level: values.get("cni.logLevel"),
    name: "kuma-cni",
    type: "kuma-cni",
  };
}

/**
 * Formats JSON byte for byte as Helm's `toPrettyJson` does, so that chart and command give the same
 * text, and the same checksum of it: keys in order, and Go's escapes.
 */
export function prettyJson(value: unknown): string {
  return JSON.stringify(sorted(value), undefined, 2).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1);
  return Object.fromEntries(entries.map(([key, below]) => [key, sorted(below)]));
}
