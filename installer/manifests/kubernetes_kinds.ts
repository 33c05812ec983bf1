/** Kinds of values that go into a Kubernetes object as they are; fields of Kubernetes 1.36. */
import {
  anyMapping,
  fields,
  type Kind,
  label,
  listOf,
  mappingOf,
  oneOf,
  text,
  textLike,
  truth,
  wholeNumber,
} from "./kinds.ts";
import type { Tree } from "./tree.ts";

/** Labels, annotations and the like. */
export const textMapping: Kind<Readonly<Record<string, string>>> = mappingOf(
  text,
  "a mapping of names to text, such as kubernetes.io/os: linux",
);

const seconds = wholeNumber(0, 2_147_483_647);
const identity = wholeNumber(0, 2_147_483_647);

/** An amount of a resource. */
const quantity: Kind<string | number> = {
  words: "an amount, such as 100m or 100Mi",
  schema: {
    anyOf: [
      { type: "number", minimum: 0 },
      { type: "string", pattern: "^[0-9]+(\\.[0-9]+)?(m|k|[KMGTPE]i?|e[0-9]+)?$" },
    ],
  },
  problem(actual, path) {
    const holds = typeof actual === "number"
      ? actual >= 0
      : typeof actual === "string" && /^[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?|e[0-9]+)?$/.test(actual);
    return holds ? undefined : { path, actual, expected: this.words };
  },
};

const quantities = mappingOf(quantity, "a mapping of resources to amounts");

/** `resources` of a container. */
export const resources: Kind<Tree> = fields("resources of a container", {
  limits: quantities,
  requests: quantities,
});

/** A toleration. */
const toleration = fields("a toleration", {
  key: text,
  operator: oneOf("Exists", "Equal", "Lt", "Gt"),
  value: text,
  effect: oneOf("NoSchedule", "PreferNoSchedule", "NoExecute"),
  tolerationSeconds: seconds,
});

/** `tolerations` of a pod. */
export const tolerations: Kind<readonly Tree[]> = listOf(toleration, "a list of tolerations");

/** `affinity` of a pod; the terms themselves are left to the API server. */
export const affinity: Kind<Tree> = fields("affinity of a pod", {
  nodeAffinity: anyMapping,
  podAffinity: anyMapping,
  podAntiAffinity: anyMapping,
});

const profile = fields("a profile", {
  type: oneOf("RuntimeDefault", "Unconfined", "Localhost"),
  localhostProfile: text,
});
const seLinuxOptions = fields("seLinuxOptions", {
  level: text,
  role: text,
  type: text,
  user: text,
});
/** A capability in Kubernetes' spelling, without the kernel's prefix. */
const capabilities = listOf(
  textLike(
    "a capability without CAP_, such as DAC_OVERRIDE, or ALL",
    "^[A-BD-Z][A-Z_]+$|^C([B-Z]|A[A-OQ-Z])[A-Z_]*$",
  ),
  "a list of capabilities",
);
const commonSecurity = {
  appArmorProfile: profile,
  runAsGroup: identity,
  runAsNonRoot: truth,
  runAsUser: identity,
  seLinuxOptions,
  seccompProfile: profile,
} as const;

/** `securityContext` of a container. */
export const containerSecurity: Kind<Tree> = fields("the securityContext of a container", {
  ...commonSecurity,
  allowPrivilegeEscalation: truth,
  capabilities: fields("capabilities", { add: capabilities, drop: capabilities }),
  privileged: truth,
  procMount: oneOf("Default", "Unmasked"),
  readOnlyRootFilesystem: truth,
});

/** `securityContext` of a pod. */
export const podSecurity: Kind<Tree> = fields("the securityContext of a pod", {
  ...commonSecurity,
  fsGroup: identity,
  fsGroupChangePolicy: oneOf("Always", "OnRootMismatch"),
  seLinuxChangePolicy: oneOf("MountOption", "Recursive"),
  supplementalGroups: listOf(identity, "a list of groups"),
  supplementalGroupsPolicy: oneOf("Merge", "Strict"),
  sysctls: listOf(fields("a sysctl", { name: text, value: text }), "a list of sysctls"),
});

/** Names of namespaces. */
export const namespaces: Kind<readonly string[]> = listOf(label, "a list of namespaces");

/** Names of namespaces, or beginnings of such names. */
export const namespacePatterns: Kind<readonly string[]> = listOf(
  textLike(
    "a namespace, or the beginning of its name and *, such as openshift-*",
    "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$|^[a-z0-9][-a-z0-9]{0,61}\\*$",
  ),
  "a list of namespaces",
);

/** IP addresses; what the pattern lets through beyond them, the plugin's own reader refuses. */
export const addresses: Kind<readonly string[]> = listOf(
  textLike("an IP address", "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$"),
  "a list of IP addresses",
);
