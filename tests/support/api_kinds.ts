/** The resources that the API server stand-in serves. */

/** One resource. */
export interface ApiKind {
  readonly kind: string;
  readonly group: string;
  readonly apiVersion: string;
  readonly namespaced: boolean;
  /** Whether a CustomResourceDefinition must be there for it. */
  readonly isCustom?: boolean;
}

function kind(kind: string, apiVersion: string, namespaced: boolean): ApiKind {
  const slash = apiVersion.indexOf("/");
  return { kind, apiVersion, group: slash < 0 ? "" : apiVersion.slice(0, slash), namespaced };
}

/** Resources by their plural, as paths name them. */
export const apiKinds: Readonly<Record<string, ApiKind>> = {
  pods: kind("Pod", "v1", true),
  nodes: kind("Node", "v1", false),
  namespaces: kind("Namespace", "v1", false),
  events: kind("Event", "v1", true),
  daemonsets: kind("DaemonSet", "apps/v1", true),
  leases: kind("Lease", "coordination.k8s.io/v1", true),
  customresourcedefinitions: kind("CustomResourceDefinition", "apiextensions.k8s.io/v1", false),
  "network-attachment-definitions": {
    ...kind("NetworkAttachmentDefinition", "k8s.cni.cncf.io/v1", true),
    isCustom: true,
  },
};

const byKind = new Map(Object.entries(apiKinds).map(([resource, { kind }]) => [kind, resource]));

/** The plural of an object's kind; a pod's when it has none. */
export function resourceOf(object: { readonly kind?: string }): string {
  return byKind.get(object.kind ?? "Pod") ?? `${(object.kind ?? "").toLowerCase()}s`;
}
