/**
 * What a Multus in front calls for each pod. Pure.
 *
 * Facts: Multus 4, `pkg/types/conf.go`, `pkg/k8sclient`: `clusterNetwork` is looked for as a
 * NetworkAttachmentDefinition, as a network's name in `confDir`, as a folder and as a file; without
 * it, `delegates` holds the configurations themselves, and the first is the pod's main one. Keys
 * match without regard to case.
 */
import { fieldOf, type JsonNode, stringFieldOf } from "../conflist/json_edit.ts";
import type { ConfFile } from "../conflist/conf_file.ts";

/** What Multus calls. */
export type Delegate =
  /** A file of the net dir. */
  | { readonly kind: "file"; readonly name: string }
  /** Plugins that stand in Multus' own file, with their types. */
  | { readonly kind: "embedded"; readonly types: readonly string[] }
  /** It cannot be told from the net dir. */
  | { readonly kind: "unknown"; readonly reason: string };

/** Tells whether a plugin is Multus. */
function isMultus(type: string | undefined): boolean {
  return type === "multus" || type === "multus-shim";
}

/**
 * Tells what Multus calls for each pod.
 *
 * @param plugin Multus' own configuration.
 * @param netDir Path of the net dir on the host.
 * @param files The net dir's files.
 */
export function delegateOf(
  plugin: JsonNode,
  netDir: string,
  files: readonly ConfFile[],
): Delegate {
  const clusterNetwork = stringFieldOf(plugin, "clusterNetwork") ?? "";
  if (clusterNetwork !== "") return byReference(clusterNetwork, netDir, files);
  const delegates = fieldOf(plugin, "delegates");
  const first = delegates?.kind === "array" ? delegates.items[0] : undefined;
  if (first === undefined) {
    return { kind: "unknown", reason: "it has neither 'clusterNetwork' nor 'delegates'" };
  }
  const plugins = fieldOf(first, "plugins");
  const types = plugins?.kind === "array"
    ? plugins.items.map((item) => stringFieldOf(item, "type") ?? "")
    : [stringFieldOf(first, "type") ?? ""];
  return { kind: "embedded", types };
}

function byReference(reference: string, netDir: string, files: readonly ConfFile[]): Delegate {
  if (!reference.startsWith("/")) {
    return {
      kind: "unknown",
      reason: `its 'clusterNetwork' is the name "${reference}", which leads to a ` +
        "NetworkAttachmentDefinition or another folder",
    };
  }
  const slash = reference.lastIndexOf("/");
  const [folder, name] = [reference.slice(0, slash), reference.slice(slash + 1)];
  // Multus' own container sees the host's folder below a mount point such as /host.
  if (!pathOnHost(folder).endsWith(pathOnHost(netDir))) {
    return {
      kind: "unknown",
      reason: `its 'clusterNetwork' is "${reference}", which is not in the net dir "${netDir}"`,
    };
  }
  if (!files.some((file) => file.name === name)) {
    return { kind: "unknown", reason: `its 'clusterNetwork' "${reference}" is not there` };
  }
  return { kind: "file", name };
}

/** `/var/run` is a link to `/run` everywhere. */
function pathOnHost(path: string): string {
  return path.replace("/var/run/", "/run/").replace(/\/+$/, "");
}

/** Returns Multus' own configuration, when it is the plugin that a file calls first. */
export function multusIn(plugins: readonly JsonNode[]): JsonNode | undefined {
  const [first] = plugins;
  return first !== undefined && isMultus(stringFieldOf(first, "type")) ? first : undefined;
}
