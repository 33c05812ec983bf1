/** Each setting of install-cni, declared once. */
import type { KindName, ValueOf } from "./kinds.ts";

/** Declaration of one setting. */
export interface Declaration {
  /** Environment variable; the flag is made of it. */
  readonly variable: string;
  readonly kind: KindName;
  /** The default, in the form of the environment. */
  readonly default: string;
  /** One sentence for people. */
  readonly help: string;
  /** The commands that the setting matters to, whose help names it; by default all that take any. */
  readonly mattersTo?: readonly SettingsCommand[];
}

/** A command that takes the settings; `plan` is like `check`. */
export type SettingsCommand = "install" | "check" | "uninstall";

/** All settings by their names in the program, in the order of the documentation. */
export const declarations = {
  /** Configuration file to edit or create; empty: found out by looking. */
  confName: {
    variable: "CNI_CONF_NAME",
    kind: "confName",
    default: "",
    help: "File in the net dir to chain to, or to write when not chained; empty: the file that " +
      "the runtime loads",
    mattersTo: ["install", "check"],
  },
  /** JSON text of the plugin's configuration, with placeholders. */
  networkConfig: {
    variable: "CNI_NETWORK_CONFIG",
    kind: "json",
    default: "",
    help: "JSON text of the plugin's configuration, with the placeholders " +
      "__KUBECONFIG_FILEPATH__ and __SERVICEACCOUNT_TOKEN__",
  },
  /** The net dir's path on the host. */
  netDir: {
    variable: "CNI_NET_DIR",
    kind: "path",
    default: "/etc/cni/net.d",
    help: "Path of the net dir on the host",
  },
  /** The net dir as this process sees it. */
  mountedNetDir: {
    variable: "MOUNTED_CNI_NET_DIR",
    kind: "path",
    default: "/host/etc/cni/net.d",
    help: "Path under which this program sees the host's net dir",
  },
  /** The bin dir as this process sees it. */
  mountedBinDir: {
    variable: "MOUNTED_CNI_BIN_DIR",
    kind: "path",
    default: "/host/opt/cni/bin",
    help: "Path under which this program sees the host's bin dir",
  },
  /** Folder of the plugin's files to install; empty: `/opt/cni/bin`, else beside this program. */
  sourceDir: {
    variable: "CNI_SOURCE_DIR",
    kind: "path",
    default: "",
    help: "Folder with the plugin's files; empty: /opt/cni/bin, else the folder of this program",
    mattersTo: ["install", "check"],
  },
  /** Whether to chain to another plugin's list, or else to write a file of our own. */
  chained: {
    variable: "CHAINED_CNI_PLUGIN",
    kind: "boolean",
    default: "true",
    help: "Whether to chain to another plugin's list; false: write a file of our own",
    mattersTo: ["install", "check"],
  },
  /** Who decides which file of the net dir is used. */
  runtime: {
    variable: "CNI_RUNTIME",
    kind: "runtime",
    default: "auto",
    help: "Program that chooses among the files of the net dir; auto: the runtime that is seen " +
      "below MOUNTED_HOST_ROOT, else containerd",
    mattersTo: ["install", "check"],
  },
  /** The administrator's word that the named file is the one. */
  confNameIsLoaded: {
    variable: "CNI_CONF_NAME_IS_LOADED",
    kind: "boolean",
    default: "false",
    help: "Whether you know that pods go through the file of CNI_CONF_NAME; true: other files do " +
      "not count",
    mattersTo: ["install", "check"],
  },
  /** The host's root folder as this process sees it. */
  mountedHostRoot: {
    variable: "MOUNTED_HOST_ROOT",
    kind: "path",
    default: "/host",
    help: "Folder below which this program sees the host's files, such as " +
      "etc/containerd/config.toml; read-only is enough, and what is not there is not read",
  },
  /** libcni's cache folder as this process sees it; empty: below the host's root. */
  mountedCacheDir: {
    variable: "MOUNTED_CNI_CACHE_DIR",
    kind: "path",
    default: "",
    help: "Path under which this program sees libcni's cache of the host; empty: var/lib/cni " +
      "below MOUNTED_HOST_ROOT",
  },
  /** The host's BPF file system as this process sees it; empty: pins are not looked after. */
  mountedBpffs: {
    variable: "MOUNTED_BPFFS",
    kind: "path",
    default: "",
    help:
      "Path under which this program sees the host's BPF file system, to remove what the engine " +
      "ebpf pinned for pods that are gone; empty: not looked after",
    mattersTo: ["install", "uninstall"],
  },
  logLevel: {
    variable: "CNI_LOG_LEVEL",
    kind: "level",
    default: "info",
    help: "What this program logs to stderr",
  },
  logFormat: {
    variable: "CNI_LOG_FORMAT",
    kind: "logFormat",
    default: "text",
    help:
      "Form of the log lines on stderr, the plugin's too: text as the reference writes it, or " +
      "one JSON object per line",
    mattersTo: ["install"],
  },
  /** Name of the kubeconfig in the net dir. */
  kubeconfigName: {
    variable: "KUBECFG_FILE_NAME",
    kind: "name",
    default: "ZZZ-kuma-cni-kubeconfig",
    help: "Name of the kubeconfig in the net dir",
  },
  caFile: {
    variable: "KUBE_CA_FILE",
    kind: "path",
    default: "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
    help: "The cluster's certificate authority",
    mattersTo: ["install", "check"],
  },
  tokenFile: {
    variable: "KUBE_SERVICE_ACCOUNT_TOKEN_PATH",
    kind: "path",
    default: "/var/run/secrets/kubernetes.io/serviceaccount/token",
    help: "The service account's token",
    mattersTo: ["install", "check"],
  },
  apiHost: {
    variable: "KUBERNETES_SERVICE_HOST",
    kind: "host",
    default: "",
    help: "Host of the API server for the kubeconfig; set by kubelet",
    mattersTo: ["install", "check"],
  },
  apiPort: {
    variable: "KUBERNETES_SERVICE_PORT",
    kind: "serverPort",
    default: "",
    help: "Port of the API server for the kubeconfig; set by kubelet",
    mattersTo: ["install", "check"],
  },
  apiProtocol: {
    variable: "KUBERNETES_SERVICE_PROTOCOL",
    kind: "protocol",
    default: "https",
    help: "Protocol of the API server for the kubeconfig",
    mattersTo: ["install", "check"],
  },
  /** Seconds between two looks at everything, besides the looks that changes cause. */
  checkInterval: {
    variable: "CFGCHECK_INTERVAL",
    kind: "seconds",
    default: "1",
    help: "Seconds between two looks at everything; changes of files are noticed at once",
    mattersTo: ["install"],
  },
  /** Seconds after which the token is read again at the latest. */
  tokenInterval: {
    variable: "REFRESH_SA_TOKEN_INTERVAL",
    kind: "seconds",
    default: "60",
    help: "Seconds after which the token is read again at the latest",
    mattersTo: ["install"],
  },
  /** Whether to stay and heal. */
  sleep: {
    variable: "SLEEP",
    kind: "boolean",
    default: "true",
    help: "Whether to stay and heal; false: install, leave it installed and exit",
    mattersTo: ["install"],
  },
  readyFile: {
    variable: "READY_FILE",
    kind: "path",
    default: "/tmp/ready",
    help: "File that exists exactly while everything is installed",
  },
  /** Whether to uninstall when stopped. */
  uninstallOnStop: {
    variable: "KUMA_CNI_UNINSTALL",
    kind: "boolean",
    default: "false",
    help: "Whether to uninstall when stopped; false: only when the DaemonSet is being removed",
    mattersTo: ["install"],
  },
  /** Whether runtimes start the shim. */
  shim: {
    variable: "SHIM",
    kind: "boolean",
    default: "true",
    help:
      "Whether runtimes start the shim, which has this program answer calls and starts the plugin " +
      "only when that fails; false: they start the plugin each time",
    mattersTo: ["install", "check"],
  },
  /** Whether a refusal counts as removal. */
  uninstallWhenRefused: {
    variable: "KUMA_CNI_UNINSTALL_WHEN_REFUSED",
    kind: "boolean",
    default: "false",
    help:
      "Whether to uninstall also when the API server refuses this program its own pod (401 or " +
      "403) at the stop, which it could read before",
    mattersTo: ["install"],
  },
  /** Name of this process's own pod; empty: the host name. */
  podName: {
    variable: "POD_NAME",
    kind: "text",
    default: "",
    help: "Name of this program's pod; empty: the host name",
    mattersTo: ["install"],
  },
  /** Namespace of this process's own pod; empty: the service account's. */
  podNamespace: {
    variable: "POD_NAMESPACE",
    kind: "text",
    default: "",
    help: "Namespace of this program's pod; empty: that of the service account",
    mattersTo: ["install"],
  },
  /** Name of this node; empty: that of the own pod's. */
  nodeName: {
    variable: "NODE_NAME",
    kind: "text",
    default: "",
    help: "Name of this node, whose pods are followed; empty: the node of this program's pod",
    mattersTo: ["install"],
  },
  /** Whether the agent takes the taint from its node when no controller does. */
  removeOwnTaint: {
    variable: "KUMA_CNI_REMOVE_OWN_TAINT",
    kind: "boolean",
    default: "false",
    help:
      "Whether to take the taint from this node when no controller does; needs the right to get " +
      "and patch nodes",
    mattersTo: ["install"],
  },
  taintKey: {
    variable: "KUMA_CNI_TAINT_KEY",
    kind: "qualifiedName",
    default: "NodeReadiness",
    help: "Key of the taint; another one than Kuma's is not understood by Kuma's own controller",
    mattersTo: ["install"],
  },
  taintEffect: {
    variable: "KUMA_CNI_TAINT_EFFECT",
    kind: "taintEffect",
    default: "NoSchedule",
    help: "Effect of the taint",
    mattersTo: ["install"],
  },
  /** Seconds in which the rules of all running pods are compared once; 0: never. */
  sweepInterval: {
    variable: "SWEEP_INTERVAL",
    kind: "duration",
    default: "600",
    help: "Seconds in which the rules of every running pod are compared with the ledger once; 0: " +
      "never; needs the capabilities SYS_ADMIN and NET_ADMIN",
    mattersTo: ["install"],
  },
  /** What is done about rules that differ from the ledger. */
  repair: {
    variable: "REPAIR",
    kind: "repair",
    default: "report",
    help: "What to do about rules of a running pod that were changed: report, or repair as well",
    mattersTo: ["install"],
  },
  /** Whether meshed pods that started without the plugin get their rules. */
  repairEarlyPods: {
    variable: "REPAIR_EARLY_PODS",
    kind: "earlyPods",
    default: "off",
    help: "Whether meshed pods that started without the plugin get their rules: off, waiting (as " +
      "long as the sidecar is not ready), or always (which breaks open connections); needs the " +
      "node's process IDs and the capabilities SYS_ADMIN, NET_ADMIN and SYS_PTRACE",
    mattersTo: ["install"],
  },
  /** TCP port of health and metrics; 0: not served. */
  healthPort: {
    variable: "HEALTH_PORT",
    kind: "port",
    default: "0",
    help: "TCP port that serves /healthz, /readyz and /metrics; 0: none",
    mattersTo: ["install"],
  },
  /** Address that health and metrics are served on. */
  healthAddress: {
    variable: "HEALTH_ADDRESS",
    kind: "text",
    default: "0.0.0.0",
    help: "Address that health and metrics are served on",
    mattersTo: ["install"],
  },
} as const satisfies Record<string, Declaration>;

/** The settings, checked. */
export type Settings = {
  readonly [Name in keyof typeof declarations]: ValueOf<(typeof declarations)[Name]["kind"]>;
};
