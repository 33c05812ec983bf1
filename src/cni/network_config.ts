/** The network configuration on stdin: the specification's keys and each setting of this plugin. */
import { CniError, CniErrorCode } from "./errors.ts";
import { topLevelValueSpan } from "./json_span.ts";
import { DEFAULT_VERSION, supportedVersions } from "./versions.ts";

/** A network configuration whose standard keys are right. */
export interface NetworkConfig {
  readonly cniVersion: string;
  readonly name: string;
  /** All keys, as parsed. */
  readonly values: Readonly<Record<string, unknown>>;
  /** The bytes it was parsed from. */
  readonly bytes: Uint8Array;
}

/** A declaration of one setting: the source of parsing, messages and documentation. */
export interface Setting<T> {
  /** Where it stands, for example `kubernetes.kubeconfig`. */
  readonly path: string;
  /** What is allowed, for people: completes "wanted …". */
  readonly wanted: string;
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
  readonly cniBinDir: string | undefined;
  readonly engine: "auto" | "nftables" | "iptables";
  readonly redirectRulesVersion: "2.9" | "3" | undefined;
  readonly agentSocket: string | undefined;
  readonly lookupTimeoutSeconds: number;
  readonly allowPodSettings: readonly string[];
  readonly resolvers: readonly string[];
}

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
      "Namespaces whose pods are passed through without a look-up",
    ),
    cniBinDir: text(
      "kubernetes.cni_bin_dir",
      "Host path of the plugin's folder; read by install-cni only",
    ),
    engine: choice(
      "engine",
      ["auto", "nftables", "iptables"],
      "auto",
      "What installs the rules",
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
 * Parses the bytes of stdin and checks the specification's keys.
 *
 * @throws {CniError} code 6 when they are not JSON in UTF-8, 7 when `name` or a type is wrong, 1 when
 * the version is not supported.
 */
export function parseNetworkConfig(bytes: Uint8Array): NetworkConfig {
  const values = parseObject(bytes);
  const name = own(values, "name");
  if (typeof name !== "string" || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) {
    throw wrong(
      "name",
      'a letter or digit, followed by letters, digits, "_", "." or "-"',
      name,
    );
  }
  const type = own(values, "type") ?? "";
  if (typeof type !== "string") throw wrong("type", "a string", type);
  const version = own(values, "cniVersion") ?? "";
  if (typeof version !== "string") throw wrong("cniVersion", "a string", version);
  const cniVersion = version === "" ? DEFAULT_VERSION : version;
  if (!supportedVersions().includes(cniVersion)) {
    throw new CniError(
      CniErrorCode.IncompatibleVersion,
      "Incompatible CNI versions",
      `Config is ${show(cniVersion)}, plugin supports ${JSON.stringify(supportedVersions())}`,
    );
  }
  return { cniVersion, name, values, bytes };
}

/**
 * Reads the plugin's own settings.
 *
 * @throws {CniError} code 7 that names the key, what is allowed there and what was found.
 */
export function readSettings(config: NetworkConfig): NetworkSettings {
  const declared = networkSettings();
  const read = <T>(setting: Setting<T>): T => readSetting(config.values, setting);
  return {
    logLevel: read(declared.logLevel),
    kubeconfig: read(declared.kubeconfig),
    excludeNamespaces: read(declared.excludeNamespaces),
    cniBinDir: read(declared.cniBinDir),
    engine: read(declared.engine),
    redirectRulesVersion: read(declared.redirectRulesVersion),
    agentSocket: read(declared.agentSocket),
    lookupTimeoutSeconds: read(declared.lookupTimeoutSeconds),
    allowPodSettings: read(declared.allowPodSettings),
    resolvers: read(declared.resolvers),
  };
}

/**
 * Returns the bytes of `prevResult` as the caller wrote them, or `undefined` when there is none.
 *
 * @throws {CniError} code 7 when it is no object.
 */
export function previousResultOf(config: NetworkConfig): Uint8Array | undefined {
  const value = own(config.values, "prevResult") ?? undefined;
  if (value === undefined) return undefined;
  if (!isObject(value)) throw wrong("prevResult", "an object", value);
  const span = topLevelValueSpan(config.bytes, "prevResult");
  if (span === undefined) throw new Error("prevResult was parsed but not found in its text");
  return config.bytes.subarray(span.start, span.end);
}

function parseObject(bytes: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    // A byte order mark is no JSON (RFC 8259, section 8.1) and is kept so that parsing refuses it.
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof SyntaxError ? withoutSnippet(error.message) : "Not UTF-8 text";
    throw new CniError(
      CniErrorCode.Decoding,
      bytes.length === 0
        ? "Network configuration on stdin is empty"
        : `Could not decode the network configuration on stdin (${bytes.length} bytes) as JSON`,
      bytes.length === 0 ? "" : reason,
    );
  }
  if (!isObject(value)) {
    throw new CniError(
      CniErrorCode.InvalidConfig,
      `Network configuration on stdin must be a JSON object, but it is ${typeName(value)}`,
    );
  }
  return value;
}

/** Cuts the quotation of the text out of a parser's message: the configuration can hold a token. */
function withoutSnippet(message: string): string {
  return message.replace(/,? ?(\.\.\.)?".*$/s, "");
}

function readSetting<T>(values: Readonly<Record<string, unknown>>, setting: Setting<T>): T {
  const keys = setting.path.split(".");
  let current: unknown = values;
  for (const [depth, key] of keys.entries()) {
    if (!isObject(current)) throw wrong(keys.slice(0, depth).join("."), "an object", current);
    current = own(current, key);
    // Templates of installers write null or an empty text for what was not set.
    if (current === undefined || current === null || current === "") return setting.fallback;
  }
  const value = setting.convert(current);
  if (value === undefined) throw wrong(setting.path, setting.wanted, current);
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
    wanted: `one of ${allowed.map((value) => JSON.stringify(value)).join(", ")}`,
    fallback,
    help,
    convert: (value) => allowed.find((item) => item === value),
  };
}

function path(path: string, help: string): Setting<string | undefined> {
  return {
    path,
    wanted: "an absolute path",
    fallback: undefined,
    help,
    convert: (value) =>
      typeof value === "string" && value.startsWith("/") && !value.includes("\0")
        ? value
        : undefined,
  };
}

function text(path: string, help: string): Setting<string | undefined> {
  return {
    path,
    wanted: "a string",
    fallback: undefined,
    help,
    convert: (value) => typeof value === "string" ? value : undefined,
  };
}

function texts(path: string, help: string): Setting<readonly string[]> {
  return { path, wanted: "an array of strings", fallback: [], help, convert: toTexts };
}

function toTexts(value: unknown): readonly string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.every((item): item is string => typeof item === "string") ? value : undefined;
}

function seconds(path: string, fallback: number, most: number, help: string): Setting<number> {
  return {
    path,
    wanted: `a number above 0 and at most ${most}`,
    fallback,
    help,
    convert: (value) => typeof value === "number" && value > 0 && value <= most ? value : undefined,
  };
}

function rulesVersion(): Setting<"2.9" | "3" | undefined> {
  return {
    path: "redirect_rules_version",
    wanted: '"2.9" or "3"',
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
    wanted: 'an object whose "servers" is an array of strings',
    fallback: [],
    help: 'The pod\'s resolvers, given by the runtime for "capabilities": {"dns": true}',
    convert: (value) => {
      if (!isObject(value)) return undefined;
      // The convention writes "servers"; containerd up to 1.7 writes "Servers".
      return toTexts(own(value, "servers") ?? own(value, "Servers") ?? []);
    },
  };
}

function own(values: Readonly<Record<string, unknown>>, key: string): unknown {
  return Object.hasOwn(values, key) ? values[key] : undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrong(path: string, wanted: string, actual: unknown): CniError {
  const found = actual === undefined ? "nothing" : `${typeName(actual)} ${show(actual)}`.trimEnd();
  return new CniError(
    CniErrorCode.InvalidConfig,
    `Network configuration: "${path}" must be ${wanted}, but it is ${found}`,
    "Correct this key in the plugin's entry of the CNI configuration file on the node",
  );
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** Short scalars are quoted in messages; anything else could be long or secret. */
function show(value: unknown): string {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value !== "string") return "";
  return JSON.stringify(value.length > 64 ? value.slice(0, 64) + "…" : value);
}
