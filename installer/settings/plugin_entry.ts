/**
 * The plugin's entry as the administrator's text makes it, read by the plugin's own reader: what the
 * plugin would refuse must never reach a host, where it would stop every pod.
 */
import { CniError } from "../../src/cni/errors.ts";
import { type PluginSettings, readPluginSettings } from "../../src/cni/plugin_settings.ts";
import { isSupportedVersion, supportedVersions } from "../../src/cni/versions.ts";
import { fillTemplate } from "../conflist/conflist.ts";
import { bytesOf, JsonError, parseJson } from "../conflist/json_edit.ts";
import { checkNumbers, checkPluginFields } from "../conflist/plugin_fields.ts";
import type { Settings } from "./declarations.ts";

/** Stand-ins of what is known only on a host; none of them can make a right text wrong. */
const facts = { kubeconfigPath: "/k", agentSocketPath: "/a", token: "t" };

/**
 * Reads the text of `CNI_NETWORK_CONFIG` as the plugin will, with its placeholders filled.
 *
 * @throws {JsonError} when it is not a JSON object of our type, or one that libcni would refuse.
 * @throws {CniError} when the plugin would refuse a setting in it.
 */
export function readPluginEntry(template: string): PluginSettings {
  return readPluginSettings(entryIn(template));
}

function entryIn(template: string): Record<string, unknown> {
  const text = fillTemplate(template, facts);
  const root = parseJson(text);
  checkPluginFields(root);
  checkNumbers(root);
  return JSON.parse(new TextDecoder().decode(bytesOf(text)));
}

/** Returns what keeps the plugin from reading the text, in one line; `undefined` when nothing does. */
export function problemOfEntry(template: string): string | undefined {
  try {
    const { cniBinDir } = readPluginEntry(template).settings;
    // The plugin does not need it, but its program is given this path.
    return cniBinDir === undefined || /^\/[^\0]*$/.test(cniBinDir)
      ? undefined
      : `"kubernetes.cni_bin_dir" must be an absolute path, but it is ${
        JSON.stringify(shortened(cniBinDir))
      }`;
  } catch (error) {
    if (error instanceof JsonError) return error.message;
    // Its hint names this very setting, as the caller's line does.
    if (error instanceof CniError) return error.message.replace(/^Network configuration: /, "");
    throw error;
  }
}

/**
 * Returns what makes the text useless as a network of its own, in one line: chained, the list's
 * version counts, and the text's own does not.
 */
export function problemOfOwnNetwork(template: string): string | undefined {
  const { cniVersion } = entryIn(template);
  if (cniVersion === undefined || cniVersion === "" || isSupportedVersion(String(cniVersion))) {
    return undefined;
  }
  return `"cniVersion" is ${JSON.stringify(cniVersion)}, expected one of ` +
    supportedVersions().join(", ");
}

/** Returns what has no effect in the text, or less than is probably meant; one line for each. */
export function warningsOfEntry({ networkConfig }: Settings): string[] {
  if (networkConfig === "") return [];
  const { settings, unknown } = readPluginEntry(networkConfig);
  const warnings = unknown.map(({ key, nearest }) =>
    `CNI_NETWORK_CONFIG: the key "${shortened(key)}" has no effect` +
    (nearest === undefined ? "" : `; did you mean "${nearest}"?`)
  );
  if (settings.kubeconfig === undefined) {
    warnings.push(
      'CNI_NETWORK_CONFIG: "kubernetes.kubeconfig" is not set, so pods cannot be looked up while ' +
        'this program is away; add "kubernetes": {"kubeconfig": "__KUBECONFIG_FILEPATH__"}',
    );
  }
  return warnings;
}

function shortened(key: string): string {
  return key.length <= 80 ? key : `${key.slice(0, 77)}...`;
}
