/** The plugin's own settings in the network configuration: their declarations, and their reader. */
import { isRecord, own } from "../json/record.ts";
import { wrongValue } from "./json_value.ts";

/** A declaration of one setting: the source of parsing, messages and documentation. */
export interface Setting<T> {
  /** Where it stands, for example `kubernetes.kubeconfig`. */
  readonly path: string;
  /** What is allowed, for people: completes "must be …". */
  readonly expected: string;
  /** The value when the key is absent, null or an empty text. */
  readonly fallback: T;
  /** What it is for. */
  readonly help: string;
  /** Converts the JSON value; `undefined` when it is not allowed. */
  convert(value: unknown): T | undefined;
}

/** The parsed settings; absent ones have their declared fallback. */
export interface NetworkSettings {
  readonly logLevel: "off" | "info" | "debug";
  readonly kubeconfig: string | undefined;
  readonly excludeNamespaces: readonly string[];
  readonly includeNamespaces: readonly string[];
  readonly cniBinDir: string | undefined;
  readonly clusterDns: readonly string[];
  readonly engine: "auto" | "nftables" | "iptables" | "ebpf";
  readonly ebpfStrict: boolean;
  readonly ebpfBpffsPath: string | undefined;
  readonly ebpfCgroupPath: string | undefined;
  readonly redirectRulesVersion: "2.9" | "3" | undefined;
  readonly agentSocket: string | undefined;
  readonly lookupTimeoutSeconds: number;
  readonly allowPodSettings: readonly string[];
  readonly resolvers: readonly string[];
}

/** What a person can do about a wrong setting: the file on the node is the wrong place. */
export const SETTINGS_HINT =
  "Correct it in CNI_NETWORK_CONFIG of install-cni, which writes this entry: a change by hand in " +
  "the file on the node is undone";

/** What the runtime hands over is not in anybody's file. */
const RUNTIME_HINT = "The container runtime hands it over";

/**
 * Declares every setting of the plugin, besides the specification's own keys. Unknown keys are
 * ignored, as the specification demands.
 */
export function networkSettings(): {
  [Name in keyof NetworkSettings]: Setting<NetworkSettings[Name]>;
} {
  return {
    logLevel: choice("log_level", ["off", "info", "debug"], "info", "What is logged"),
    kubeconfig: path(
      "kubernetes.kubeconfig",
      "Host path of the kubeconfig for looking up pods",
    ),
    excludeNamespaces: texts(
      "kubernetes.exclude_namespaces",
      "Namespaces whose pods are skipped without a look-up; `openshift-*`: all that begin so",
    ),
    includeNamespaces: texts(
      "kubernetes.include_namespaces",
      "The only namespaces whose pods are looked up, in the same form; when empty, all",
    ),
    cniBinDir: text(
      "kubernetes.cni_bin_dir",
      "Host path of the plugin's folder; read by install-cni only",
    ),
    clusterDns: addresses(
      "kubernetes.cluster_dns",
      "The cluster's DNS servers, as kubelet's `clusterDNS`; for runtimes that do not tell a pod's resolvers",
    ),
    engine: choice(
      "engine",
      ["auto", "nftables", "iptables", "ebpf"],
      "auto",
      "What installs the rules",
    ),
    ebpfStrict: truth(
      "ebpf.strict",
      "Whether a pod that the engine `ebpf` cannot serve fails instead of getting rules of `auto`",
    ),
    ebpfBpffsPath: path(
      "ebpf.bpffs_path",
      "Host path of the BPF file system in which the engine `ebpf` pins; when absent, `/sys/fs/bpf`",
    ),
    ebpfCgroupPath: path(
      "ebpf.cgroup_path",
      "Host path at or below which pods' cgroups are looked for; when absent, all of cgroup2",
    ),
    redirectRulesVersion: rulesVersion(),
    agentSocket: path("agent.socket", "Host path of the node agent's Unix socket"),
    lookupTimeoutSeconds: seconds(
      "lookup_timeout_seconds",
      30,
      300,
      "Total bound of a pod look-up with all its retries",
    ),
    allowPodSettings: texts(
      "allow_pod_settings",
      "Settings that annotations may make beyond those that are safe in anybody's hands",
    ),
    resolvers: resolvers(),
  };
}

/**
 * Reads the plugin's own settings.
 *
 * @param values The plugin's entry, or the network configuration that the runtime makes of it.
 * @throws {CniError} code 7 that names the key, what is allowed there and what was found.
 */
export function readSettings(values: Readonly<Record<string, unknown>>): NetworkSettings {
  const declared = networkSettings();
  const read = <T>(setting: Setting<T>): T => readSetting(values, setting);
  return {
    logLevel: read(declared.logLevel),
    kubeconfig: read(declared.kubeconfig),
    excludeNamespaces: read(declared.excludeNamespaces),
    includeNamespaces: read(declared.includeNamespaces),
    cniBinDir: read(declared.cniBinDir),
    clusterDns: read(declared.clusterDns),
    engine: read(declared.engine),
    ebpfStrict: read(declared.ebpfStrict),
    ebpfBpffsPath: read(declared.ebpfBpffsPath),
    ebpfCgroupPath: read(declared.ebpfCgroupPath),
    redirectRulesVersion: read(declared.redirectRulesVersion),
    agentSocket: read(declared.agentSocket),
    lookupTimeoutSeconds: read(declared.lookupTimeoutSeconds),
    allowPodSettings: read(declared.allowPodSettings),
    resolvers: read(declared.resolvers),
  };
}

/**
 * Reads where the engine `ebpf` pins, and nothing else: for DEL and GC, whatever the rest says.
 *
 * @throws {CniError} as {@linkcode readSettings}.
 */
export function readBpffsPath(values: Readonly<Record<string, unknown>>): string | undefined {
  return readSetting(values, networkSettings().ebpfBpffsPath);
}

function readSetting<T>(values: Readonly<Record<string, unknown>>, setting: Setting<T>): T {
  const keys = setting.path.split(".");
  const hint = keys[0] === "runtimeConfig" ? RUNTIME_HINT : SETTINGS_HINT;
  let current: unknown = values;
  for (const [depth, key] of keys.entries()) {
    if (!isRecord(current)) {
      throw wrongValue(keys.slice(0, depth).join("."), "an object", current, hint);
    }
    current = own(current, key);
    // Templates of installers write null or an empty text for what was not set.
    if (current === undefined || current === null || current === "") return setting.fallback;
  }
  const value = setting.convert(current);
  if (value === undefined) throw wrongValue(setting.path, setting.expected, current, hint);
  return value;
}

function choice<T extends string>(
  path: string,
  allowed: readonly T[],
  fallback: T,
  help: string,
): Setting<T> {
  return {
    path,
    expected: `one of ${allowed.map((value) => JSON.stringify(value)).join(", ")}`,
    fallback,
    help,
    convert: (value) => allowed.find((item) => item === value),
  };
}

function path(path: string, help: string): Setting<string | undefined> {
  return {
    path,
    expected: "an absolute path",
    fallback: undefined,
    help,
    convert: (value) =>
      typeof value === "string" && value.startsWith("/") && !value.includes("\0")
        ? value
        : undefined,
  };
}

function truth(path: string, help: string): Setting<boolean> {
  return {
    path,
    expected: "true or false",
    fallback: false,
    help,
    convert: (value) => typeof value === "boolean" ? value : undefined,
  };
}

function text(path: string, help: string): Setting<string | undefined> {
  return {
    path,
    expected: "a string",
    fallback: undefined,
    help,
    convert: (value) => typeof value === "string" ? value : undefined,
  };
}

function texts(path: string, help: string): Setting<readonly string[]> {
  return { path, expected: "an array of strings", fallback: [], help, convert: toTexts };
}

function toTexts(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.every((item): item is string => typeof item === "string") ? value : undefined;
}

function seconds(path: string, fallback: number, most: number, help: string): Setting<number> {
  return {
    path,
    expected: `a number above 0 and at most ${most}`,
    fallback,
    help,
    convert: (value) => typeof value === "number" && value > 0 && value <= most ? value : undefined,
  };
}

function rulesVersion(): Setting<"2.9" | "3" | undefined> {
  return {
    path: "redirect_rules_version",
    expected: '"2.9" or "3"',
    fallback: undefined,
    help: "Form of the DNS-over-TCP rules; when absent, that of the pod's annotations",
    convert: (value) => {
      const text = typeof value === "number" ? String(value) : value;
      return text === "2.9" || text === "3" ? text : undefined;
    },
  };
}

function resolvers(): Setting<readonly string[]> {
  return {
    path: "runtimeConfig.dns",
    expected: 'an object whose "servers" is an array of strings',
    fallback: [],
    help: 'The pod\'s resolvers, given by the runtime for "capabilities": {"dns": true}',
    convert: (value) => {
      if (!isRecord(value)) return undefined;
      // The convention writes "servers"; containerd up to 1.7 writes "Servers".
      return toTexts(own(value, "servers") ?? own(value, "Servers") ?? []);
    },
  };
}

function addresses(path: string, help: string): Setting<readonly string[]> {
  return {
    path,
    expected: "an array of IP addresses",
    fallback: [],
    help,
    convert: (value) => {
      const found = toTexts(value);
      return found?.every(isAddress) ? found : undefined;
    },
  };
}

function isAddress(text: string): boolean {
  if (!/^[0-9a-fA-F.:]{2,45}$/.test(text)) return false;
  // Only an IPv6 address may stand in brackets; of IPv4 a URL takes forms like "10.1", too.
  return text.includes(":")
    ? URL.canParse(`http://[${text}]`)
    : /^((25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(25[0-5]|2[0-4]\d|1?\d?\d)$/.test(text);
}
