/** What the log may tell of a pod. */
import type { Pod } from "../kubernetes/pod.ts";
import { shorten } from "../text/shorten.ts";

/** Annotations that decide which pod it is, whether it is meshed, and how. */
const DECIDING: readonly string[] = [
  "kubernetes.io/config.hash",
  "kuma.io/sidecar-injected",
  "kuma.io/transparent-proxying",
  "traffic.kuma.io/transparent-proxy-config",
  "kuma.io/sidecar-uid",
  "kuma.io/transparent-proxying-ip-family-mode",
  "kuma.io/transparent-proxying-inbound-port",
  "kuma.io/transparent-proxying-inbound-v6-port",
  "kuma.io/transparent-proxying-outbound-port",
  "kuma.io/transparent-proxying-ebpf",
  "kuma.io/gateway",
  "kuma.io/application-probe-proxy-port",
  "kuma.io/builtin-dns",
  "kuma.io/builtin-dns-port",
  "traffic.kuma.io/exclude-inbound-ports",
  "traffic.kuma.io/exclude-inbound-ips",
  "traffic.kuma.io/exclude-outbound-ports",
  "traffic.kuma.io/exclude-outbound-ips",
  "traffic.kuma.io/exclude-outbound-ports-for-uids",
  "traffic.kuma.io/drop-invalid-packets",
  "traffic.kuma.io/iptables-logs",
];

/** Longest value that is shown; the configuration that an injector writes has some 700 characters. */
const SHOWN_VALUE = 2000;

/** Most containers that are shown by name. */
const SHOWN_NAMES = 20;

/**
 * Reduces a pod to what decided about it, within bounds: other annotations hold whole manifests with
 * what people put into them (`kubectl.kubernetes.io/last-applied-configuration`), and the agent's log
 * is read by more people than the pod.
 */
export function loggedPod(pod: Pod): Record<string, unknown> {
  const { sidecarDns, dns, runtimeClassName } = pod;
  const annotations: Record<string, string> = {};
  for (const name of DECIDING) {
    if (Object.hasOwn(pod.annotations, name)) annotations[name] = cut(pod.annotations[name]!);
  }
  return {
    containerNames: someOf(pod.containerNames),
    initContainerNames: someOf(pod.initContainerNames),
    ...(sidecarDns === undefined ? {} : { sidecarDns }),
    ...(dns === undefined ? {} : { dns: { ...dns, nameservers: someOf(dns.nameservers) } }),
    ...(runtimeClassName === undefined ? {} : { runtimeClassName: cut(runtimeClassName) }),
    annotations,
  };
}

function someOf(texts: readonly string[]): string[] {
  return texts.slice(0, SHOWN_NAMES).map(cut);
}

function cut(text: string): string {
  return shorten(text, SHOWN_VALUE);
}
