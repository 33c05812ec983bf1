/** On which nodes the CNI DaemonSet can run at all. */
import { isRecord, recordsOf } from "../../src/json/record.ts";
import { type Node, type Taint, textsOf } from "./node.ts";

/** A DaemonSet, reduced to where its pods can run. */
export interface DaemonSet {
  readonly key: string;
  /** Label `app` of its pods. */
  readonly app: string | undefined;
  readonly nodeSelector: Readonly<Record<string, string>>;
  /** Terms of the required node affinity, one of which must hold; `undefined`: none is required. */
  readonly terms: readonly Term[] | undefined;
  readonly tolerations: readonly Readonly<Record<string, unknown>>[];
}

/** A term of a node affinity: all of it must hold. */
export interface Term {
  readonly labels: readonly Requirement[];
  readonly fields: readonly Requirement[];
}

/** A requirement as Kubernetes' NodeSelectorRequirement. */
export interface Requirement {
  readonly key: string;
  readonly operator: string;
  readonly values: readonly string[];
}

/** What our program is built for; without a node selector a DaemonSet still cannot run elsewhere. */
const systems: readonly string[] = ["linux"];
const architectures: readonly string[] = ["amd64", "arm64"];

/**
 * Parses an apps/v1 DaemonSet, whole or as an item of a list.
 *
 * @throws {TypeError} when it is not a DaemonSet.
 */
export function parseDaemonSet(json: unknown): DaemonSet {
  const object = isRecord(json) ? json : {};
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  const template = at(object, "spec", "template");
  const pod = at(template, "spec");
  if (typeof metadata.name !== "string" || pod === undefined) {
    throw new TypeError('Not a DaemonSet: "metadata.name" or "spec.template.spec" is missing');
  }
  const required = at(
    pod,
    "affinity",
    "nodeAffinity",
    "requiredDuringSchedulingIgnoredDuringExecution",
  );
  return {
    key: `${metadata.namespace}/${metadata.name}`,
    app: textsOf(at(template, "metadata", "labels")).app,
    nodeSelector: textsOf(pod.nodeSelector),
    terms: required === undefined
      ? undefined
      : recordsOf(required.nodeSelectorTerms).map((term) => ({
        labels: requirementsOf(term.matchExpressions),
        fields: requirementsOf(term.matchFields),
      })),
    tolerations: recordsOf(pod.tolerations),
  };
}

/** Whether a pod of the DaemonSet can ever run on the node: selector, affinity, system, architecture. */
export function canRunOn({ nodeSelector, terms }: DaemonSet, node: Node): boolean {
  const { labels, name } = node;
  const system = labels["kubernetes.io/os"];
  const architecture = labels["kubernetes.io/arch"];
  if (system !== undefined && !systems.includes(system)) return false;
  if (architecture !== undefined && !architectures.includes(architecture)) return false;
  if (Object.entries(nodeSelector).some(([key, value]) => labels[key] !== value)) return false;
  return terms === undefined || terms.some((term) => {
    // As the scheduler has it, a term without requirements selects nothing.
    if (term.labels.length + term.fields.length === 0) return false;
    return term.labels.every((requirement) => holds(requirement, labels[requirement.key])) &&
      term.fields.every((requirement) =>
        requirement.key === "metadata.name" && holds(requirement, name)
      );
  });
}

/** Whether the pods may run on a node with that taint. */
export function tolerates(
  { tolerations }: DaemonSet,
  taint: Pick<Taint, "key" | "effect">,
): boolean {
  // Kubernetes' scheduler only prefers other nodes then.
  if (taint.effect === "PreferNoSchedule") return true;
  return tolerations.some(({ key, operator, value, effect }) => {
    if (effect !== undefined && effect !== "" && effect !== taint.effect) return false;
    if (key === undefined || key === "") return operator === "Exists";
    return key === taint.key && (operator === "Exists" || (value ?? "") === "");
  });
}

function holds({ operator, values }: Requirement, actual: string | undefined): boolean {
  switch (operator) {
    case "In":
      return actual !== undefined && values.includes(actual);
    case "NotIn":
      return actual === undefined || !values.includes(actual);
    case "Exists":
      return actual !== undefined;
    case "DoesNotExist":
      return actual === undefined;
    case "Gt":
    case "Lt": {
      const isNumber = (text: string | undefined) => /^[-+]?[0-9]+$/.test(text ?? "");
      if (!isNumber(actual) || !isNumber(values[0])) return false;
      return operator === "Gt"
        ? Number(actual) > Number(values[0])
        : Number(actual) < Number(values[0]);
    }
  }
  return false;
}

function requirementsOf(value: unknown): Requirement[] {
  return recordsOf(value).map(({ key, operator, values }) => ({
    key: String(key),
    operator: String(operator),
    values: Array.isArray(values) ? values.map(String) : [],
  }));
}

function at(value: unknown, ...path: string[]): Record<string, unknown> | undefined {
  let current = value;
  for (const key of path) current = isRecord(current) ? current[key] : undefined;
  return isRecord(current) ? current : undefined;
}
