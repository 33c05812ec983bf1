/**
 * Every finding of `install-cni doctor`, declared once: what it is about, how bad it is, what it means.
 * Those that most often are the cause of what people come with stand first, and are told first.
 */
import type { Grade } from "./finding.ts";

interface Declared {
  readonly subject: string;
  readonly grade: Grade;
  /** One sentence for docs/doctor.md, without a full stop. */
  readonly means: string;
}

function failure(subject: string, means: string): Declared {
  return { subject, grade: "failure", means };
}

function warning(subject: string, means: string): Declared {
  return { subject, grade: "warning", means };
}

function note(subject: string, means: string): Declared {
  return { subject, grade: "note", means };
}

const declared = {
  "not-installed": failure(
    "chain",
    "Nothing of kuma-cni is on this node: the agent has not run here, or has uninstalled",
  ),
  "mount-moved": failure(
    "folders",
    "What is mounted is no longer the folder at its path: MicroK8s' `current` points elsewhere after a refresh",
  ),
  "net-dir-other": failure(
    "folders",
    "The runtime reads another net dir than the one that install-cni writes to",
  ),
  "bin-dir-other": failure(
    "folders",
    "The runtime looks for plugins elsewhere, as k3s and Rancher Desktop do",
  ),
  "cilium-exclusive": failure(
    "conflict",
    "Cilium puts others' configuration files aside, one with our entry among them",
  ),
  "plugin-missing": failure("plugin", "The program is not in the bin dir"),
  "plugin-differs": failure("plugin", "The program is not the one that this install-cni brings"),
  "plugin-unknown": failure("plugin", "The program cannot be compared with anything"),
  "waiting": failure("chain", "install-cni waits for something before it can chain the plugin"),
  "entry-missing": failure("chain", "No configuration file has the plugin's entry"),
  "entry-wrong": failure("chain", "The entry is not as it should be, stands twice, or is not last"),
  "entry-unreadable": failure("chain", "The plugin itself would refuse its entry, and each pod"),
  "not-captured": failure(
    "chain",
    "The runtime or Multus loads another file, skips ours, or calls the plugin twice",
  ),
  "file-wrong": failure("chain", "Another file of ours is missing or has another content"),
  "kubeconfig-missing": failure("kubeconfig", "The plugin has no kubeconfig"),
  "kubeconfig-wrong": failure("kubeconfig", "The kubeconfig is not as it should be, or unusable"),
  "token-expired": failure("token", "The token on the host has expired"),
  "api-down": failure("api", "The API server does not answer the plugin's account as it should"),
  "right-missing": failure("rights", "The account may not get pods"),
  "kernel-without-nftables": failure(
    "kernel",
    "The kernel has no nf_tables, and the network configuration asks for them",
  ),
  "agent-not-ready": failure("agent", "The node agent itself says that it is not ready"),
  "pods-not-captured": failure("pods", "Meshed pods run without their rules"),
  "contention": warning(
    "changes",
    "Another program rewrites the list again and again; with each write there is a gap",
  ),
  "socket-lb": warning(
    "conflict",
    "Cilium's socket load balancing works in pods, too, and goes past the rules",
  ),
  "kube-system-included": warning(
    "conflict",
    "kube-system is not excluded: when the API server is away, its own helpers cannot start",
  ),
  "other-mesh": warning("conflict", "Another service mesh's plugin is in the chain"),
  "agent-silent": warning("agent", "No node agent answers at the socket; nothing heals the chain"),
  "token-expires": warning("token", "The token on the host is about to expire, and not renewed"),
  "token-unreadable": warning("token", "The service account's token cannot be read"),
  "authority-unreadable": warning("authority", "The cluster's authority cannot be read"),
  "api-slow": warning("api", "The API server answers slowly; pods start as slowly"),
  "left-over": warning("chain", "A file is left over from an earlier version or setting"),
  "warning": warning("settings", "install-cni would warn of this in its log"),
  "runtime-odd": warning("runtime", "The runtime's configuration has something odd"),
  "ebpf-without-means": warning(
    "kernel",
    "The engine is set to ebpf, and what it needs is not mounted, so that others do its work",
  ),
  "node-local-dns": warning(
    "conflict",
    "Pods ask NodeLocal DNSCache, whose address the rules for DNS do not know",
  ),
  "runtime-assumed": note("runtime", "Which runtime calls plugins is assumed, not seen"),
  "net-dir-volatile": note(
    "folders",
    "A reboot empties the net dir: pods that start before the agent are not captured",
  ),
  "list-rewritten": note("changes", "Another program has rewritten the list; the entry is back"),
  "ipv6-off": note("kernel", "IPv6 is off, so pods get rules for IPv4 alone"),
  "user-namespaces-off": note("kernel", "User namespaces are off; `hostUsers: false` cannot work"),
  "no-cgroup2": note("kernel", "No cgroup2 is mounted, which the engine ebpf needs"),
  "no-bpf": note("kernel", "No BPF file system is mounted, which the engine ebpf needs"),
  "rights-narrow": note("rights", "Optional rights are missing: pods are asked for one by one"),
  "pod-not-found": failure("pod", "There is no such pod"),
  "pod-unseen": warning("pod", "The API server does not tell of it, so nothing is known"),
  "pod-not-captured": failure(
    "pod",
    "It is meshed and was started with a chain without the plugin, so it has no rules",
  ),
  "pod-drifted": failure("pod", "Its rules are no longer those that the plugin installed"),
  "pod-not-validated": failure(
    "pod",
    "`kuma-validation` finds no rules, so the sandbox was made without the plugin",
  ),
  "pod-no-sandbox": failure("pod", "Its sandbox could not be made; its events say why"),
  "pod-refused": failure("pod", "Its annotations ask for what cannot or may not be done"),
  "pod-not-injected": warning(
    "pod",
    "Its label asks for a sidecar, and it has none: the injector was away when it was created",
  ),
  "pod-own-init": warning("pod", "It was injected for kuma-init, which needs privileges"),
  "pod-excluded": note("pod", "Its namespace is excluded, so the plugin skips it"),
  "pod-host-network": note("pod", "It uses the host's network, so no CNI plugin is called for it"),
  "pod-unlabelled": note("pod", "Nothing asks for a sidecar, so it is not meshed on purpose"),
  "pod-elsewhere": note("pod", "It runs on another node, whose files are not seen here"),
  "not-seen": { subject: "…", grade: "unknown", means: "A look was not possible here, and why" },
} as const satisfies Record<string, Declared>;

/** Names a finding for machines and for docs/doctor.md. */
export type FindingCode = keyof typeof declared;

/** All findings by their codes, the most probable causes first. */
export const catalogue: Readonly<Record<FindingCode, Declared>> = declared;

const order = Object.keys(declared);

/** Returns the place of a finding among the probable causes. */
export function rankOf(code: FindingCode | undefined): number {
  return code === undefined ? order.length : order.indexOf(code);
}
