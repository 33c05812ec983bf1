/** The part of a Kubernetes Pod that this project reads, parsed from what an API server sent. */

/** A pod, reduced to what decides about its traffic. */
export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly containerNames: readonly string[];
  readonly initContainerNames: readonly string[];
}

/**
 * Parses a v1 Pod, whole or as an item of a list (which lacks `kind`).
 *
 * @param json A value as `JSON.parse` makes it, trusted in nothing.
 * @returns The pod; its `annotations` have no prototype, so that no name finds anything inherited.
 * @throws {TypeError} naming the field that is missing or of the wrong type.
 */
export function parsePod(json: unknown): Pod {
  const pod = record(json, "pod");
  for (const [key, wanted] of [["kind", "Pod"], ["apiVersion", "v1"]] as const) {
    const value = own(pod, key);
    if (value !== undefined && value !== wanted) {
      throw new TypeError(`Not a pod: "${key}" is ${show(value)}, wanted "${wanted}"`);
    }
  }
  const metadata = record(own(pod, "metadata"), "metadata");
  const spec = record(own(pod, "spec"), "spec");
  return {
    namespace: text(metadata, "namespace", "metadata.namespace"),
    name: text(metadata, "name", "metadata.name"),
    uid: text(metadata, "uid", "metadata.uid"),
    annotations: annotationsOf(own(metadata, "annotations")),
    containerNames: namesOf(own(spec, "containers"), "spec.containers"),
    initContainerNames: namesOf(own(spec, "initContainers") ?? [], "spec.initContainers"),
  };
}

function annotationsOf(value: unknown): Record<string, string> {
  const annotations: Record<string, string> = Object.create(null);
  if (value === undefined || value === null) return annotations;
  for (const [name, entry] of Object.entries(record(value, "metadata.annotations"))) {
    if (typeof entry !== "string") {
      throw new TypeError(
        `Not a pod: annotation ${show(name)} is ${show(entry)}, wanted a string`,
      );
    }
    annotations[name] = entry;
  }
  return annotations;
}

function namesOf(value: unknown, place: string): string[] {
  if (!Array.isArray(value)) {
    throw new TypeError(`Not a pod: "${place}" is ${show(value)}, wanted a list`);
  }
  return value.map((entry, index) => {
    const at = `${place}[${index}]`;
    return text(record(entry, at), "name", `${at}.name`);
  });
}

function text(values: Record<string, unknown>, key: string, place: string): string {
  const value = own(values, key);
  if (typeof value === "string" && value !== "") return value;
  throw new TypeError(`Not a pod: "${place}" is ${show(value)}, wanted a string`);
}

function record(value: unknown, place: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new TypeError(`Not a pod: "${place}" is ${show(value)}, wanted an object`);
}

function own(values: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(values, key) ? values[key] : undefined;
}

/** A value in a message, cut short: its author is not trusted. */
function show(value: unknown): string {
  if (value === undefined) return "missing";
  const json = JSON.stringify(value) ?? typeof value;
  return json.length > 60 ? `${json.slice(0, 60)}…` : json;
}
