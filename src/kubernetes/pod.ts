/** The part of a Kubernetes Pod that this project reads, parsed from what an API server sent. */
import { isRecord, own } from "../json/record.ts";

/** A pod, reduced to what decides about its traffic. */
export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly containerNames: readonly string[];
  readonly initContainerNames: readonly string[];
  /** Absent when the sidecar's environment has the variable of neither. */
  readonly sidecarDns?: SidecarDns;
  /** Absent when nothing differs from the default, `ClusterFirst` alone. */
  readonly dns?: PodDns;
  readonly runtimeClassName?: string;
}

/**
 * The DNS server inside of the sidecar: `embedded` answers UDP only, `coredns` UDP and TCP. Kuma's
 * injector gives the container `kuma-sidecar` the environment variable `KUMA_DNS_PROXY_PORT` for the
 * former (an option since 2.11, the default in 2.14), else `KUMA_DNS_CORE_DNS_PORT`.
 */
export type SidecarDns = "embedded" | "coredns";

/** How kubelet makes a pod's `resolv.conf`: `spec.dnsPolicy` and `spec.dnsConfig.nameservers`. */
export interface PodDns {
  readonly policy: string;
  readonly nameservers: readonly string[];
}

/** Kubelet writes no more into a `resolv.conf` (MaxDNSNameservers). */
export const MAX_NAMESERVERS = 3;

/**
 * Parses a v1 Pod, whole or as an item of a list (which lacks `kind`).
 *
 * @param json A value as `JSON.parse` makes it, trusted in nothing.
 * @returns The pod; its `annotations` have no prototype, so that no name finds anything inherited.
 * @throws {TypeError} naming the field that is missing or of the wrong type.
 */
export function parsePod(json: unknown): Pod {
  const pod = recordAt(json, "pod");
  for (const [key, expected] of [["kind", "Pod"], ["apiVersion", "v1"]] as const) {
    const value = own(pod, key);
    if (value !== undefined && value !== expected) {
      throw new TypeError(`Not a pod: "${key}" is ${show(value)}, expected "${expected}"`);
    }
  }
  const metadata = recordAt(own(pod, "metadata"), "metadata");
  const spec = recordAt(own(pod, "spec"), "spec");
  const sidecarDns = sidecarDnsOf(spec);
  const dns = dnsOf(spec);
  const runtimeClassName = optionalText(spec, "runtimeClassName", "spec.runtimeClassName");
  return {
    namespace: text(metadata, "namespace", "metadata.namespace"),
    name: text(metadata, "name", "metadata.name"),
    uid: text(metadata, "uid", "metadata.uid"),
    annotations: annotationsOf(own(metadata, "annotations")),
    containerNames: namesOf(own(spec, "containers"), "spec.containers"),
    initContainerNames: namesOf(own(spec, "initContainers") ?? [], "spec.initContainers"),
    ...(sidecarDns === undefined ? {} : { sidecarDns }),
    ...(dns === undefined ? {} : { dns }),
    ...(runtimeClassName === undefined ? {} : { runtimeClassName }),
  };
}

function annotationsOf(value: unknown): Record<string, string> {
  const annotations: Record<string, string> = Object.create(null);
  if (value === undefined || value === null) return annotations;
  for (const [name, entry] of Object.entries(recordAt(value, "metadata.annotations"))) {
    if (typeof entry !== "string") {
      throw new TypeError(
        `Not a pod: annotation ${show(name)} is ${show(entry)}, expected a string`,
      );
    }
    annotations[name] = entry;
  }
  return annotations;
}

function namesOf(value: unknown, place: string): string[] {
  if (!Array.isArray(value)) {
    throw new TypeError(`Not a pod: "${place}" is ${show(value)}, expected a list`);
  }
  return value.map((entry, index) => {
    const at = `${place}[${index}]`;
    return text(recordAt(entry, at), "name", `${at}.name`);
  });
}

/** Of a container's environment nothing but these two names is looked at. */
function sidecarDnsOf(spec: Record<string, unknown>): SidecarDns | undefined {
  for (const list of ["containers", "initContainers"]) {
    const containers = own(spec, list) ?? [];
    if (!Array.isArray(containers)) continue;
    const sidecar: unknown = containers.find((container) => nameOf(container) === "kuma-sidecar");
    if (sidecar === undefined) continue;
    const variables = own(recordAt(sidecar, list), "env") ?? [];
    if (!Array.isArray(variables)) {
      throw new TypeError(
        `Not a pod: "env" of "kuma-sidecar" is ${show(variables)}, expected a list`,
      );
    }
    const has = (name: string) => variables.some((variable) => nameOf(variable) === name);
    if (has("KUMA_DNS_PROXY_PORT")) return "embedded";
    if (has("KUMA_DNS_CORE_DNS_PORT")) return "coredns";
  }
  return undefined;
}

function nameOf(value: unknown): unknown {
  return isRecord(value) ? own(value, "name") : undefined;
}

function dnsOf(spec: Record<string, unknown>): PodDns | undefined {
  const policy = optionalText(spec, "dnsPolicy", "spec.dnsPolicy") ?? "ClusterFirst";
  const config = recordAt(own(spec, "dnsConfig") ?? {}, "spec.dnsConfig");
  const nameservers: unknown = own(config, "nameservers") ?? [];
  if (!isTexts(nameservers)) {
    throw new TypeError(
      `Not a pod: "spec.dnsConfig.nameservers" is ${show(nameservers)}, expected a list of strings`,
    );
  }
  if (policy === "ClusterFirst" && nameservers.length === 0) return undefined;
  return { policy, nameservers: nameservers.slice(0, MAX_NAMESERVERS) };
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function optionalText(
  values: Record<string, unknown>,
  key: string,
  place: string,
): string | undefined {
  const value = own(values, key) ?? "";
  return value === "" ? undefined : text(values, key, place);
}

function text(values: Record<string, unknown>, key: string, place: string): string {
  const value = own(values, key);
  if (typeof value === "string" && value !== "") return value;
  throw new TypeError(`Not a pod: "${place}" is ${show(value)}, expected a string`);
}

function recordAt(value: unknown, place: string): Record<string, unknown> {
  if (isRecord(value)) return value;
  throw new TypeError(`Not a pod: "${place}" is ${show(value)}, expected an object`);
}

/** A value in a message, cut short: its author is not trusted. */
function show(value: unknown): string {
  if (value === undefined) return "missing";
  const json = JSON.stringify(value) ?? typeof value;
  return json.length > 60 ? `${json.slice(0, 60)}…` : json;
}
