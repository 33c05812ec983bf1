/**
 * The settings of install-cni. Each is declared once, in {@linkcode declarations}; environment
 * variables, flags, `--help` and the documentation come from there.
 *
 * Names, defaults and the forms of booleans are those of the reference installer.
 */
import type { LogLevel } from "../../src/log/log.ts";
import { fillTemplate } from "../conflist/conflist.ts";
import { JsonError, memberOf, parseJson, stringMemberOf } from "../conflist/json_edit.ts";
import { type Declaration, declarations } from "./declarations.ts";

export { type Declaration, declarations };

/** The settings, checked. */
export interface Settings {
  /** Configuration file to edit or create; empty: found out by looking. */
  readonly confName: string;
  /** JSON text of the plugin's configuration, with placeholders. */
  readonly networkConfig: string;
  /** The net dir's path on the host. */
  readonly netDir: string;
  /** The net dir as this process sees it. */
  readonly mountedNetDir: string;
  /** The bin dir as this process sees it. */
  readonly mountedBinDir: string;
  /** Folder of the plugin's files to install; empty: `/opt/cni/bin`, else beside this program. */
  readonly sourceDir: string;
  /** Whether to chain to another plugin's list, or else to write a file of our own. */
  readonly chained: boolean;
  readonly logLevel: LogLevel;
  /** Name of the kubeconfig in the net dir. */
  readonly kubeconfigName: string;
  readonly caFile: string;
  readonly tokenFile: string;
  readonly apiHost: string;
  readonly apiPort: string;
  readonly apiProtocol: string;
  /** Seconds between two looks at everything, besides the looks that changes cause. */
  readonly checkInterval: number;
  /** Seconds after which the token is read again at the latest. */
  readonly tokenInterval: number;
  /** Whether to stay and heal. */
  readonly sleep: boolean;
  readonly readyFile: string;
  /** Whether to uninstall when stopped. */
  readonly uninstallOnStop: boolean;
  /** Name of this process's own pod; empty: the host name. */
  readonly podName: string;
  /** Namespace of this process's own pod; empty: the service account's. */
  readonly podNamespace: string;
  /** Name of this node; empty: that of the own pod's. */
  readonly nodeName: string;
  /** TCP port of health and metrics; 0: not served. */
  readonly healthPort: number;
  /** Address that health and metrics are served on. */
  readonly healthAddress: string;
}

/** A setting has a value that is not allowed; the message is one line for people. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
  /** @param exitCode The reference installer's exit code for it. */
  constructor(message: string, readonly exitCode: number) {
    super(message);
  }
}

/** Returns the flag of a setting, for example `--cni-net-dir`. */
export function flagOf(declaration: Declaration): string {
  return `--${declaration.variable.toLowerCase().replaceAll("_", "-")}`;
}

/** Returns in words what a setting may be. */
export function allowedValues(declaration: Declaration): string {
  switch (declaration.kind) {
    case "boolean":
      return "true or false (also 1, t, T, TRUE, True, 0, f, F, FALSE, False)";
    case "seconds":
      return "a number of seconds greater than 0";
    case "level":
      return "off, info or debug";
    case "port":
      return "a number from 0 to 65535";
    case "json":
      return `a JSON object with "type": "kuma-cni"`;
    case "path":
      return "an absolute path";
    case "name":
      return "a file name without a slash, not ending in .conf, .conflist or .json";
    case "confName":
      return "a file name without a slash, ending in .conf, .conflist or .json";
    case "text":
      return "text";
  }
}

/**
 * Reads the settings.
 *
 * @param read Returns the value of an environment variable or of its flag; `undefined` or empty: the
 * default.
 * @param options.needsConfig Whether the plugin's configuration must be there; uninstalling, for
 * example, needs none.
 * @throws {SettingsError} with the first wrong value, in one line.
 */
export function parseSettings(
  read: (declaration: Declaration) => string | undefined,
  options: { readonly needsConfig: boolean } = { needsConfig: true },
): Settings {
  const result: Record<string, unknown> = {};
  for (const declaration of declarations()) {
    const given = read(declaration);
    const value = given === undefined || given === "" ? declaration.default : given;
    if (declaration.kind === "json" && value === "" && !options.needsConfig) {
      result[declaration.key] = value;
      continue;
    }
    const parsed = parseValue(declaration, value);
    if ("reason" in parsed) {
      const reason = parsed.reason === "" ? "" : ` (${parsed.reason})`;
      throw new SettingsError(
        `${declaration.variable} is ${JSON.stringify(shortened(value))}${reason}, ` +
          `wanted ${allowedValues(declaration)}`,
        declaration.kind === "level" ? 2 : 1,
      );
    }
    result[declaration.key] = parsed.value;
  }
  const settings = result as unknown as Settings;
  if (!settings.chained && settings.confName.endsWith(".conflist")) {
    throw new SettingsError(
      `CNI_CONF_NAME is ${JSON.stringify(settings.confName)}, wanted a name ending in .conf, ` +
        "since CHAINED_CNI_PLUGIN is false and runtimes expect a list in a .conflist file",
      1,
    );
  }
  return settings;
}

function parseValue(
  declaration: Declaration,
  value: string,
): { readonly value: unknown } | { readonly reason: string } {
  switch (declaration.kind) {
    case "text":
      return { value };
    case "boolean":
      if (/^(1|t|T|TRUE|true|True)$/.test(value)) return { value: true };
      if (/^(0|f|F|FALSE|false|False)$/.test(value)) return { value: false };
      return { reason: "" };
    case "seconds": {
      const seconds = Number(value);
      const isRight = /^[0-9]+(\.[0-9]+)?$/.test(value) && seconds > 0 && seconds <= 86400;
      return isRight ? { value: seconds } : { reason: "" };
    }
    case "port":
      return /^[0-9]{1,5}$/.test(value) && Number(value) <= 65535
        ? { value: Number(value) }
        : { reason: "" };
    case "level":
      return /^(off|info|debug)$/.test(value) ? { value } : { reason: "" };
    case "path":
      if (value === "") return { value };
      if (!value.startsWith("/") || value.includes("\0")) return { reason: "" };
      return { value: value.replace(/(?<=.)\/+$/, "") };
    case "name": {
      const isRight = isFileName(value) && !/\.(conf|conflist|json)$/.test(value);
      return isRight ? { value } : { reason: "" };
    }
    case "confName": {
      const isRight = value === "" ||
        (isFileName(value) && /\.(conf|conflist|json)$/.test(value));
      return isRight ? { value } : { reason: "" };
    }
    case "json":
      try {
        fillTemplate(value, { kubeconfigPath: "/k", agentSocketPath: "/a", token: "t" });
        return { value };
      } catch (error) {
        if (!(error instanceof JsonError)) throw error;
        return { reason: error.message };
      }
  }
}

function isFileName(value: string): boolean {
  return value !== "" && value !== "." && value !== ".." && !/[/\0]/.test(value);
}

function shortened(value: string): string {
  return value.length <= 80 ? value : `${value.slice(0, 77)}...`;
}

/** Folder of our own beside the configuration files, and beside the plugin. */
export const ownFolder = "kuma-cni.d";

/** Paths that follow from the settings. */
export interface Paths {
  /** Own folder in the net dir, as this process sees it. */
  readonly stateDir: string;
  readonly kubeconfig: string;
  /** The plugin in the bin dir, as this process sees it. */
  readonly plugin: string;
  /** The bin dir's path on the host. */
  readonly hostBinDir: string;
  /** The kubeconfig's path on the host. */
  readonly hostKubeconfig: string;
  /** The agent socket's path on the host. */
  readonly hostAgentSocket: string;
}

/** Returns the paths that follow from the settings. */
export function pathsOf(settings: Settings): Paths {
  return {
    stateDir: `${settings.mountedNetDir}/${ownFolder}`,
    kubeconfig: `${settings.mountedNetDir}/${settings.kubeconfigName}`,
    plugin: `${settings.mountedBinDir}/kuma-cni`,
    hostBinDir: hostBinDirOf(settings.networkConfig),
    hostKubeconfig: `${settings.netDir}/${settings.kubeconfigName}`,
    hostAgentSocket: `${settings.netDir}/${ownFolder}/agent.sock`,
  };
}

/** The chart tells the bin dir's host path only inside the network configuration. */
function hostBinDirOf(networkConfig: string): string {
  try {
    const kubernetes = memberOf(parseJson(networkConfig), "kubernetes");
    const path = kubernetes && stringMemberOf(kubernetes, "cni_bin_dir");
    if (path?.startsWith("/")) return path.replace(/(?<=.)\/+$/, "");
  } catch {
    // The settings were checked with the placeholders filled; without them the text may be no JSON.
  }
  return "/opt/cni/bin";
}
