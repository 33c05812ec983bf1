/** What the plugin would decide about a pod that starts now. Pure. */
import type { Pod } from "../../src/kubernetes/pod.ts";
import {
  decideBeforeLookup,
  decideBySettings,
  type DecidingSettings,
} from "../../src/pod/decide.ts";
import type { Decision } from "../../src/pod/decision.ts";

/** The settings of the network configuration that decide about pods. */
export interface NodeDecidingSettings extends DecidingSettings {
  readonly excludeNamespaces: readonly string[];
  readonly includeNamespaces: readonly string[];
}

/** What decides where no entry of the plugin is seen. */
export const unsetSettings: NodeDecidingSettings = {
  excludeNamespaces: [],
  includeNamespaces: [],
  allowPodSettings: [],
  resolvers: [],
  clusterDns: [],
  redirectRulesVersion: undefined,
};

/** Decides by the namespace's name. */
export function decideByNamespace(
  { excludeNamespaces, includeNamespaces }: NodeDecidingSettings,
  { namespace, name }: Pick<Pod, "namespace" | "name">,
): ReturnType<typeof decideBeforeLookup> {
  const reference = { podNamespace: namespace, podName: name };
  return decideBeforeLookup(reference, excludeNamespaces, includeNamespaces);
}

/**
 * Decides about a pod.
 *
 * @throws {ConfigError} when its annotations ask for what cannot or may not be done.
 */
export function decideNow(settings: NodeDecidingSettings, pod: Pod): Decision {
  return decideByNamespace(settings, pod) ?? decideBySettings(pod, settings);
}
