/**
 * What becomes of each setting that a pod can carry: the one declaration from which
 * `docs/configuration.md` is made and which the tests hold the parsers to.
 *
 * A pod's author can write every annotation of a pod that he injects by hand, so that nothing here
 * may run a program, read a file, stall the node, or leave a meshed pod unmeshed unseen.
 */

/** How a setting is treated. */
export type Treatment =
  /** It has the meaning of the reference. */
  | "honoured"
  /** It has that meaning within bounds. */
  | "bounded"
  /** Refused unless the administrator lists it in `allow_pod_settings`. */
  | "guarded"
  /** Without effect, with a warning, unless the administrator lists it in `allow_pod_settings`. */
  | "permitted"
  /** It has no effect, and a warning is logged when it asks for one. */
  | "ignored";

/** One setting. */
export interface PodSetting {
  /** Key path in the config annotation; absent for what only an annotation can say. */
  readonly key?: string;
  /** Legacy annotation of the same meaning. */
  readonly annotation?: string;
  readonly type: string;
  readonly default: string;
  /** Default of the annotation when it is another one. */
  readonly annotationDefault?: string;
  readonly treatment: Treatment;
  /** Meaning and treatment, for people. */
  readonly meaning: string;
}

/** Declares all settings in the order of the documentation. */
export function podSettings(): readonly PodSetting[] {
  const notThePods = "How rules get onto the host is not a pod's choice.";
  return [
    {
      key: "kumaDPUser",
      annotation: "kuma.io/sidecar-uid",
      type: "UID",
      default: "5678",
      treatment: "guarded",
      meaning:
        "UID of the sidecar, whose traffic is not redirected, 1-4294967294. 0 is guarded: it would " +
        "exempt everything that runs as root. A user name is refused, since the host cannot know " +
        "the users of a pod's images.",
    },
    {
      key: "ipFamilyMode",
      annotation: "kuma.io/transparent-proxying-ip-family-mode",
      type: "`dualstack`, `ipv4`, `ipv6`",
      default: "`dualstack`",
      treatment: "honoured",
      meaning:
        "Families that are redirected, in any case of letters. With `ipv4` IPv6 traffic goes " +
        "direct, with `ipv6` IPv4 traffic does (and a warning says so).",
    },
    {
      annotation: "kuma.io/transparent-proxying-inbound-v6-port",
      type: "port or 0",
      default: "-",
      treatment: "honoured",
      meaning:
        "Of Kuma up to 2.8: 0 means IPv4 only when no family mode is given; 15010 and the inbound " +
        "port mean nothing; any other port is the IPv6 inbound listener. Ignored with a warning " +
        "when `kuma.io/application-probe-proxy-port` shows Kuma 2.9 or later.",
    },
    {
      key: "redirect.inbound.enabled",
      annotation: "kuma.io/gateway",
      type: "boolean",
      default: "true",
      annotationDefault: "false (a gateway's inbound redirection is off)",
      treatment: "honoured",
      meaning: "Redirection of incoming TCP; gateways take their connections themselves.",
    },
    {
      key: "redirect.inbound.port",
      annotation: "kuma.io/transparent-proxying-inbound-port",
      type: "port",
      default: "15006",
      treatment: "honoured",
      meaning: "Inbound listener of the sidecar. The sidecar's ports must differ from each other.",
    },
    {
      key: "redirect.inbound.includePorts",
      type: "ports",
      default: "none",
      treatment: "bounded",
      meaning: "When not empty, only these are redirected and `excludePorts` has no effect.",
    },
    {
      key: "redirect.inbound.excludePorts",
      annotation: "traffic.kuma.io/exclude-inbound-ports",
      type: "ports",
      default: "none",
      annotationDefault: "9901",
      treatment: "bounded",
      meaning: "Incoming TCP to these ports goes to the application itself.",
    },
    {
      annotation: "kuma.io/application-probe-proxy-port",
      type: "port or 0",
      default: "-",
      treatment: "honoured",
      meaning:
        "Added to the excluded inbound ports unless 0. Kuma 2.9 and later write it on every pod; " +
        "without it no port is added, since Kuma up to 2.8 has no such proxy.",
    },
    {
      key: "redirect.inbound.excludePortsForIPs",
      annotation: "traffic.kuma.io/exclude-inbound-ips",
      type: "addresses and networks",
      default: "none",
      treatment: "bounded",
      meaning: "Incoming traffic from these goes to the application itself.",
    },
    {
      key: "redirect.inbound.excludePortsForUIDs",
      type: "UID exclusions",
      default: "none",
      treatment: "ignored",
      meaning: "A packet that comes in has no UID.",
    },
    {
      key: "redirect.inbound.insertRedirectInsteadOfAppend",
      type: "boolean",
      default: "false",
      treatment: "honoured",
      meaning: "The jump to our chains goes before the rules of others instead of after them.",
    },
    {
      key: "redirect.outbound.enabled",
      type: "boolean",
      default: "true",
      treatment: "guarded",
      meaning: "Redirection of outgoing TCP; `false` takes the pod's calls out of the mesh.",
    },
    {
      key: "redirect.outbound.port",
      annotation: "kuma.io/transparent-proxying-outbound-port",
      type: "port",
      default: "15001",
      treatment: "honoured",
      meaning: "Outbound listener of the sidecar.",
    },
    {
      key: "redirect.outbound.includePorts",
      type: "ports",
      default: "none",
      treatment: "bounded",
      meaning: "When not empty, only these are redirected and `excludePorts` has no effect.",
    },
    {
      key: "redirect.outbound.excludePorts",
      annotation: "traffic.kuma.io/exclude-outbound-ports",
      type: "ports",
      default: "none",
      annotationDefault: "9901",
      treatment: "bounded",
      meaning: "Outgoing TCP to these ports goes direct.",
    },
    {
      key: "redirect.outbound.excludePortsForIPs",
      annotation: "traffic.kuma.io/exclude-outbound-ips",
      type: "addresses and networks",
      default: "none",
      treatment: "bounded",
      meaning: "Outgoing traffic to these goes direct.",
    },
    {
      key: "redirect.outbound.excludePortsForUIDs",
      annotation: "traffic.kuma.io/exclude-outbound-ports-for-uids",
      type: "UID exclusions",
      default: "none",
      treatment: "bounded",
      meaning:
        "Traffic of these UIDs to these ports goes direct. The annotation separates entries with `;`.",
    },
    {
      key: "redirect.outbound.insertRedirectInsteadOfAppend",
      type: "boolean",
      default: "false",
      treatment: "honoured",
      meaning: "As for inbound.",
    },
    {
      key: "redirect.dns.enabled",
      annotation: "kuma.io/builtin-dns",
      type: "boolean",
      default: "false",
      treatment: "honoured",
      meaning: "DNS over UDP (in the 2.9 form also over TCP) goes to the sidecar's DNS proxy.",
    },
    {
      key: "redirect.dns.port",
      annotation: "kuma.io/builtin-dns-port",
      type: "port",
      default: "15053",
      treatment: "honoured",
      meaning: "The sidecar's DNS proxy. 0 is allowed while DNS is off.",
    },
    {
      key: "redirect.dns.captureAll",
      type: "boolean",
      default: "false",
      annotationDefault: "always true",
      treatment: "honoured",
      meaning:
        "DNS to any server instead of only to the pod's resolvers. These are what the container " +
        'runtime tells (`"capabilities": {"dns": true}`), else `kubernetes.cluster_dns` of the ' +
        "network configuration and the pod's `dnsConfig`, as its `dnsPolicy` says.",
    },
    {
      key: "redirect.dns.skipConntrackZoneSplit",
      type: "boolean",
      default: "false",
      treatment: "honoured",
      meaning: "No separate conntrack zones for the two halves of a DNS question.",
    },
    {
      key: "redirect.dns.resolvConfigPath",
      type: "path",
      default: "`/etc/resolv.conf`",
      treatment: "ignored",
      meaning: "A pod chooses no file of the host; the runtime knows the pod's resolvers.",
    },
    {
      key: "redirect.vnet.networks",
      type: "`interface:network` list",
      default: "none",
      treatment: "bounded",
      meaning:
        "What comes in by the interface (a trailing `+` matches a beginning) and leaves the network " +
        "is treated as outgoing, its DNS too. An interface has one network of each family.",
    },
    {
      key: "dropInvalidPackets",
      annotation: "traffic.kuma.io/drop-invalid-packets",
      type: "boolean",
      default: "false",
      treatment: "honoured",
      meaning: "Packets that belong to no connection are dropped.",
    },
    {
      key: "log.enabled",
      annotation: "traffic.kuma.io/iptables-logs",
      type: "boolean",
      default: "false",
      treatment: "honoured",
      meaning: "The kernel logs the first packet of each connection, where it logs for namespaces.",
    },
    {
      key: "log.level",
      type: "0-7",
      default: "7",
      treatment: "bounded",
      meaning: "Level of these lines; more than 7 is taken as 7, with a warning.",
    },
    {
      key: "comments.disabled",
      type: "boolean",
      default: "false",
      treatment: "honoured",
      meaning: "Rules carry no comments.",
    },
    {
      key: "iptablesExecutables",
      type: "paths",
      default: "none",
      treatment: "ignored",
      meaning: "A pod chooses no program of the host.",
    },
    {
      key: "dryRun",
      type: "boolean",
      default: "false",
      treatment: "ignored",
      meaning: `${notThePods} The rules are installed.`,
    },
    { key: "wait", type: "seconds", default: "5", treatment: "ignored", meaning: notThePods },
    {
      key: "waitInterval",
      type: "microseconds",
      default: "0",
      treatment: "ignored",
      meaning: notThePods,
    },
    {
      key: "retry",
      type: "mapping",
      default: "4 retries, 2s",
      treatment: "ignored",
      meaning: notThePods,
    },
    {
      key: "storeFirewalld",
      type: "boolean",
      default: "false",
      treatment: "ignored",
      meaning: notThePods,
    },
    {
      key: "ebpf.enabled",
      annotation: "kuma.io/transparent-proxying-ebpf",
      type: "boolean",
      default: "false",
      treatment: "permitted",
      meaning:
        "The pod asks for the engine `ebpf`, with the annotation also for none: `disabled` is always " +
        "followed. Its paths (`bpffsPath`, `cgroupPath`, `tcAttachIface`, `programsSourcePath`, " +
        "`instanceIPEnvVarName`) have no effect: a pod chooses no file of the host.",
    },
    {
      key: "cniMode",
      type: "boolean",
      default: "-",
      treatment: "ignored",
      meaning: "This is always the CNI; no warning.",
    },
    {
      key: "verbose",
      type: "boolean",
      default: "-",
      treatment: "ignored",
      meaning: "`install-cni rules` prints the rules; no warning.",
    },
  ];
}
