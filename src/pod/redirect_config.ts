/** From a pod's annotations to the configuration of its redirection. */
import type { SidecarDns } from "../kubernetes/pod.ts";
import type { RedirectConfig, RedirectRulesVersion } from "../redirect/config.ts";
import { ConfigError } from "./config_error.ts";
import { EBPF_SETTING, type EbpfWish, readEbpfWish } from "./ebpf_wish.ts";
import { parseLegacyAnnotations } from "./legacy_annotations.ts";
import { parseBoolean } from "./scalars.ts";
import type { Diagnostics } from "./section.ts";
import {
  type ParsedConfig,
  parseTransparentProxyConfig,
  type TransparentProxyOptions,
} from "./transparent_proxy_config.ts";

export { ConfigError } from "./config_error.ts";

/** Annotation that holds the whole configuration as YAML or JSON (Kuma 2.9 and later). */
export const CONFIG_ANNOTATION = "traffic.kuma.io/transparent-proxy-config";

/**
 * Settings that a pod may only make when the administrator lists them in `allow_pod_settings` of the
 * network configuration, as key paths of the config annotation.
 */
export const guardedSettings: readonly string[] = ["kumaDPUser", "redirect.outbound.enabled"];

/** All that `allow_pod_settings` can list: the guarded ones, and those that have no effect without. */
export const allowableSettings: readonly string[] = [...guardedSettings, EBPF_SETTING];

/** What the annotations alone cannot tell. */
export interface RedirectConfigOptions extends TransparentProxyOptions {
  /** The administrator's choice of the form of the DNS-over-TCP rules. */
  readonly rulesVersion?: RedirectRulesVersion;
  /** The DNS server inside of the pod's sidecar. */
  readonly sidecarDns?: SidecarDns;
}

/** The configuration of a pod, and how it came about. */
export interface RedirectConfigResult {
  readonly config: RedirectConfig;
  /** What was ignored or bounded, one sentence each. */
  readonly warnings: readonly string[];
  /** Key path as in the config annotation → where the effective value came from. */
  readonly origins: ReadonlyMap<string, string>;
  /** What is said about the engine `ebpf`. */
  readonly ebpf?: EbpfWish;
}

/**
 * Reads the redirection of a pod. The config annotation, when present and not empty, is the only
 * source; otherwise each legacy annotation counts over its own default.
 *
 * The form of the DNS-over-TCP rules is the administrator's choice, else what the sidecar's DNS server
 * can answer. Where that is not known it is `3` for the config annotation and `2.9` for legacy
 * annotations; a pod that carries both kinds was injected by Kuma 2.9 or 2.10, which redirects DNS over
 * TCP: `2.9`.
 *
 * @param annotations The pod's annotations, as its author and the control plane wrote them.
 * @param options What the administrator and the container runtime say.
 * @throws {ConfigError} when the pod states what cannot or may not be done.
 */
export function redirectConfigOf(
  annotations: Readonly<Record<string, string>>,
  options: RedirectConfigOptions,
): RedirectConfigResult {
  const text = Object.hasOwn(annotations, CONFIG_ANNOTATION) ? annotations[CONFIG_ANNOTATION]! : "";
  if (text !== "") {
    const both = parseBoolean(annotations["kuma.io/transparent-proxying"] ?? "") === true;
    const diagnostics = noDiagnostics();
    const parsed = parseTransparentProxyConfig(text, CONFIG_ANNOTATION, options, diagnostics);
    return finish(parsed, both ? "2.9" : "3", options, diagnostics, annotations);
  }
  const diagnostics = noDiagnostics();
  const parsed = parseLegacyAnnotations(annotations, options, diagnostics);
  return finish(parsed, "2.9", options, diagnostics, annotations);
}

/**
 * Reads a transparent proxy configuration that does not come from a pod, for example from a file.
 *
 * @param text YAML or JSON.
 * @param options What the administrator and the container runtime say.
 * @param defaults Name of the text in messages, and the form of the rules unless chosen.
 * @throws {ConfigError} when the text states what cannot or may not be done.
 */
export function transparentProxyConfigOf(
  text: string,
  options: RedirectConfigOptions,
  defaults: { readonly source: string; readonly rulesVersion: RedirectRulesVersion },
): RedirectConfigResult {
  const diagnostics = noDiagnostics();
  const parsed = parseTransparentProxyConfig(text, defaults.source, options, diagnostics);
  return finish(parsed, defaults.rulesVersion, options, diagnostics);
}

function noDiagnostics(): Diagnostics {
  return { origins: new Map(), warnings: [] };
}

function finish(
  parsed: ParsedConfig,
  rulesVersion: RedirectRulesVersion,
  options: RedirectConfigOptions,
  diagnostics: Diagnostics,
  annotations: Readonly<Record<string, string>> = {},
): RedirectConfigResult {
  const form = chooseForm(options, rulesVersion);
  const config: RedirectConfig = { ...parsed, rulesVersion: form.rulesVersion };
  diagnostics.origins.set("rulesVersion", form.origin);
  checkPorts(config);
  if (config.ipFamilyMode === "ipv6") {
    diagnostics.warnings.push("IPv4 traffic is not redirected: the IP family mode is ipv6");
  }
  const { origins, warnings } = diagnostics;
  const ebpf = readEbpfWish(annotations, diagnostics.ebpf, options.allowPodSettings, diagnostics);
  return { config, origins, warnings, ...(ebpf === undefined ? {} : { ebpf }) };
}

/** What nobody in the sidecar answers must not be sent there: the embedded server has no TCP. */
function chooseForm(
  { rulesVersion, sidecarDns }: RedirectConfigOptions,
  byAnnotation: RedirectRulesVersion,
): { readonly rulesVersion: RedirectRulesVersion; readonly origin: string } {
  if (rulesVersion !== undefined) {
    return { rulesVersion, origin: "network configuration redirect_rules_version" };
  }
  switch (sidecarDns) {
    case "embedded":
      return { rulesVersion: "3", origin: "KUMA_DNS_PROXY_PORT of container kuma-sidecar" };
    case "coredns":
      return { rulesVersion: "2.9", origin: "KUMA_DNS_CORE_DNS_PORT of container kuma-sidecar" };
  }
  return { rulesVersion: byAnnotation, origin: "the kind of annotation" };
}

/** One port of the sidecar cannot serve two purposes. */
function checkPorts({ inbound, outbound, dns }: RedirectConfig): void {
  const uses: [string, number][] = [["outbound", outbound.port], ["inbound", inbound.port]];
  if (inbound.ipv6Port !== undefined) uses.push(["IPv6 inbound", inbound.ipv6Port]);
  if (dns.enabled) uses.push(["DNS", dns.port]);
  const seen = new Map<number, string>();
  for (const [use, port] of uses) {
    const other = seen.get(port);
    if (other !== undefined) {
      throw new ConfigError(
        `The ${other} and the ${use} port of the sidecar are both ${port}; they must differ`,
      );
    }
    seen.set(port, use);
  }
}
