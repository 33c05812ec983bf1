/** Each setting of install-cni, declared once. */
import type { Settings } from "./settings.ts";

/** Declaration of one setting. */
export interface Declaration<K extends keyof Settings = keyof Settings> {
  readonly key: K;
  /** Environment variable; the flag is made of it. */
  readonly variable: string;
  readonly kind:
    | "text"
    | "boolean"
    | "seconds"
    | "json"
    | "level"
    | "path"
    | "name"
    | "confName"
    | "port";
  /** The default, in the form of the environment. */
  readonly default: string;
  /** One sentence for people. */
  readonly help: string;
}

/** Returns all declarations, in the order of the documentation. */
export function declarations(): readonly Declaration[] {
  return [
    {
      key: "confName",
      variable: "CNI_CONF_NAME",
      kind: "confName",
      default: "",
      help: "File in the net dir to chain to, or to write when not chained; empty: the file that " +
        "the runtime loads",
    },
    {
      key: "networkConfig",
      variable: "CNI_NETWORK_CONFIG",
      kind: "json",
      default: "",
      help: "JSON text of the plugin's configuration, with the placeholders " +
        "__KUBECONFIG_FILEPATH__ and __SERVICEACCOUNT_TOKEN__",
    },
    {
      key: "netDir",
      variable: "CNI_NET_DIR",
      kind: "path",
      default: "/etc/cni/net.d",
      help: "Path of the net dir on the host",
    },
    {
      key: "mountedNetDir",
      variable: "MOUNTED_CNI_NET_DIR",
      kind: "path",
      default: "/host/etc/cni/net.d",
      help: "Path under which this program sees the host's net dir",
    },
    {
      key: "mountedBinDir",
      variable: "MOUNTED_CNI_BIN_DIR",
      kind: "path",
      default: "/host/opt/cni/bin",
      help: "Path under which this program sees the host's bin dir",
    },
    {
      key: "sourceDir",
      variable: "CNI_SOURCE_DIR",
      kind: "path",
      default: "",
      help: "Folder with the plugin's files; empty: /opt/cni/bin, else the folder of this program",
    },
    {
      key: "chained",
      variable: "CHAINED_CNI_PLUGIN",
      kind: "boolean",
      default: "true",
      help: "Whether to chain to another plugin's list; false: write a file of our own",
    },
    {
      key: "logLevel",
      variable: "CNI_LOG_LEVEL",
      kind: "level",
      default: "info",
      help: "What this program logs to stderr",
    },
    {
      key: "kubeconfigName",
      variable: "KUBECFG_FILE_NAME",
      kind: "name",
      default: "ZZZ-kuma-cni-kubeconfig",
      help: "Name of the kubeconfig in the net dir",
    },
    {
      key: "caFile",
      variable: "KUBE_CA_FILE",
      kind: "path",
      default: "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
      help: "The cluster's certificate authority",
    },
    {
      key: "tokenFile",
      variable: "KUBE_SERVICE_ACCOUNT_TOKEN_PATH",
      kind: "path",
      default: "/var/run/secrets/kubernetes.io/serviceaccount/token",
      help: "The service account's token",
    },
    {
      key: "apiHost",
      variable: "KUBERNETES_SERVICE_HOST",
      kind: "text",
      default: "",
      help: "Host of the API server for the kubeconfig; set by kubelet",
    },
    {
      key: "apiPort",
      variable: "KUBERNETES_SERVICE_PORT",
      kind: "text",
      default: "",
      help: "Port of the API server for the kubeconfig; set by kubelet",
    },
    {
      key: "apiProtocol",
      variable: "KUBERNETES_SERVICE_PROTOCOL",
      kind: "text",
      default: "https",
      help: "Protocol of the API server for the kubeconfig",
    },
    {
      key: "checkInterval",
      variable: "CFGCHECK_INTERVAL",
      kind: "seconds",
      default: "1",
      help: "Seconds between two looks at everything; changes of files are noticed at once anyway",
    },
    {
      key: "tokenInterval",
      variable: "REFRESH_SA_TOKEN_INTERVAL",
      kind: "seconds",
      default: "60",
      help: "Seconds after which the token is read again at the latest",
    },
    {
      key: "sleep",
      variable: "SLEEP",
      kind: "boolean",
      default: "true",
      help: "Whether to stay and heal; false: install, leave it installed and exit",
    },
    {
      key: "readyFile",
      variable: "READY_FILE",
      kind: "path",
      default: "/tmp/ready",
      help: "File that exists exactly while everything is installed",
    },
    {
      key: "uninstallOnStop",
      variable: "KUMA_CNI_UNINSTALL",
      kind: "boolean",
      default: "false",
      help: "Whether to uninstall when stopped; false: only when the DaemonSet is being removed",
    },
    {
      key: "podName",
      variable: "POD_NAME",
      kind: "text",
      default: "",
      help: "Name of this program's pod; empty: the host name",
    },
    {
      key: "podNamespace",
      variable: "POD_NAMESPACE",
      kind: "text",
      default: "",
      help: "Namespace of this program's pod; empty: that of the service account",
    },
    {
      key: "nodeName",
      variable: "NODE_NAME",
      kind: "text",
      default: "",
      help: "Name of this node, whose pods are followed; empty: the node of this program's pod",
    },
    {
      key: "healthPort",
      variable: "HEALTH_PORT",
      kind: "port",
      default: "0",
      help: "TCP port that serves /healthz, /readyz and /metrics; 0: none",
    },
    {
      key: "healthAddress",
      variable: "HEALTH_ADDRESS",
      kind: "text",
      default: "0.0.0.0",
      help: "Address that health and metrics are served on",
    },
  ];
}
