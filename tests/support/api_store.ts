/** The objects of the API server stand-in: versions, selectors, pages, history and its loss. */
import type { KubernetesObject } from "./pods.ts";

/** A failure as the API reports it, in a Status object. */
export class ApiFailure extends Error {
  constructor(
    readonly code: number,
    readonly reason: string,
    message: string,
    readonly details?: Readonly<Record<string, unknown>>,
  ) {
    super(message);
  }

  /** The Status object. */
  status(): KubernetesObject {
    return {
      kind: "Status",
      apiVersion: "v1",
      metadata: {} as KubernetesObject["metadata"],
      status: "Failure",
      message: this.message,
      ...(this.reason === "" ? {} : { reason: this.reason }),
      ...(this.details === undefined ? {} : { details: this.details }),
      code: this.code,
    };
  }
}

/** The failures of a real API server, word for word. */
export const failure = {
  unauthorized: () => new ApiFailure(401, "Unauthorized", "Unauthorized"),
  forbidden: (
    user: string,
    verb: string,
    resource: string,
    namespace: string | undefined,
    name: string | undefined,
    subresource?: string,
  ) =>
    new ApiFailure(
      403,
      "Forbidden",
      `${withGroup(resource)}${name === undefined ? "" : ` "${name}"`} is forbidden: ` +
        `User "${user}" cannot ${verb} resource ` +
        `"${resource}${subresource === undefined ? "" : `/${subresource}`}" ` +
        `in API group "${groups[resource] ?? ""}" ` +
        (namespace === undefined ? "at the cluster scope" : `in the namespace "${namespace}"`),
      detailsOf(resource, name),
    ),
  notFound: (resource: string, name: string) =>
    new ApiFailure(
      404,
      "NotFound",
      `${withGroup(resource)} "${name}" not found`,
      detailsOf(resource, name),
    ),
  unknownPath: () =>
    new ApiFailure(404, "NotFound", "the server could not find the requested resource", {}),
  methodNotAllowed: () =>
    new ApiFailure(
      405,
      "MethodNotAllowed",
      "the server does not allow this method on the requested resource",
      {},
    ),
  expired: (wanted: number, oldest: number) =>
    new ApiFailure(410, "Expired", `too old resource version: ${wanted} (${oldest})`),
  badFieldSelector: (label: string) =>
    new ApiFailure(400, "BadRequest", `field label not supported: ${label}`),
} as const;

/** API groups of the resources that are not in the core group. */
const groups: Readonly<Record<string, string>> = { daemonsets: "apps" };

function withGroup(resource: string): string {
  const group = groups[resource];
  return group === undefined ? resource : `${resource}.${group}`;
}

function detailsOf(resource: string, name: string | undefined): Record<string, string> {
  const group = groups[resource];
  return {
    ...(name === undefined ? {} : { name }),
    ...(group === undefined ? {} : { group }),
    kind: resource,
  };
}

/** One line of a watch. */
export interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: KubernetesObject;
}

/** What a list or a watch asks for. */
export interface ListQuery {
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly parameters: URLSearchParams;
}

interface Change {
  readonly version: number;
  readonly resource: string;
  /** The object before and after; `undefined` where it did not exist. */
  readonly before: KubernetesObject | undefined;
  readonly after: KubernetesObject | undefined;
}

/** An in-memory store of Kubernetes objects. */
export class ApiStore {
  #objects = new Map<string, KubernetesObject>();
  #version = 1000;
  #history: Change[] = [];
  /** Changes up to this version are forgotten. */
  #forgotten = 1000;
  #listeners = new Set<(change: Change) => void>();

  constructor(objects: readonly KubernetesObject[]) {
    for (const object of objects) this.put(object);
  }

  /** The version of the last change. */
  get resourceVersion(): string {
    return String(this.#version);
  }

  /** Creates or replaces an object, by kind, namespace and name; returns what is stored. */
  put(object: KubernetesObject): KubernetesObject {
    const key = keyOf(resourceOf(object), object.metadata.namespace, object.metadata.name);
    const before = this.#objects.get(key);
    const after = structuredClone(object);
    after.metadata.uid ??= before?.metadata.uid ?? crypto.randomUUID();
    after.metadata.resourceVersion = String(++this.#version);
    this.#objects.set(key, after);
    this.#tell({ version: this.#version, resource: resourceOf(object), before, after });
    return after;
  }

  /** Deletes an object if it exists; `resource` is the plural, for example `pods`. */
  delete(resource: string, namespace: string | undefined, name: string): void {
    const key = keyOf(resource, namespace, name);
    const before = this.#objects.get(key);
    if (before === undefined) return;
    this.#objects.delete(key);
    this.#tell({ version: ++this.#version, resource, before, after: undefined });
  }

  /** Forgets the history up to now: watches from before are answered "410 Expired". */
  compact(): void {
    this.#version++;
    this.#forgotten = this.#version;
    this.#history = [];
  }

  /** Returns an object; throws the failure that the API would answer. */
  get(resource: string, namespace: string | undefined, name: string): KubernetesObject {
    if (!Object.hasOwn(kinds, resource)) throw failure.unknownPath();
    const found = this.#objects.get(keyOf(resource, namespace, name));
    if (found === undefined) throw failure.notFound(resource, name);
    return found;
  }

  /** Returns a list object, of at most `limit` items with a `continue` token for the rest. */
  list(query: ListQuery): KubernetesObject {
    const matches = matcher(query);
    const from = query.parameters.get("continue") ?? "";
    const limit = Number(query.parameters.get("limit") ?? "0");
    const all = [...this.#objects].filter(([key, object]) =>
      key.startsWith(`${query.resource}/`) && key > from && matches(object)
    ).sort(([a], [b]) => a < b ? -1 : 1);
    const page = limit > 0 ? all.slice(0, limit) : all;
    const more = page.length < all.length;
    return {
      kind: `${kinds[query.resource] ?? "Object"}List`,
      apiVersion: query.resource === "daemonsets" ? "apps/v1" : "v1",
      metadata: {
        resourceVersion: this.resourceVersion,
        ...(more
          ? { continue: page.at(-1)?.[0], remainingItemCount: all.length - page.length }
          : {}),
      } as unknown as KubernetesObject["metadata"],
      items: page.map(([, { kind: _kind, apiVersion: _apiVersion, ...item }]) => item),
    };
  }

  /** A bookmark event for pods at the present version. */
  bookmark(): WatchEvent {
    return {
      type: "BOOKMARK",
      object: {
        kind: "Pod",
        apiVersion: "v1",
        metadata: {
          resourceVersion: this.resourceVersion,
          creationTimestamp: null,
        } as unknown as KubernetesObject["metadata"],
        spec: { containers: null },
        status: {},
      },
    };
  }

  /** Calls `send` for each past event since the query's version, and for each one to come. */
  watch(query: ListQuery, send: (event: WatchEvent) => void): () => void {
    const matches = matcher(query);
    const wanted = query.parameters.get("resourceVersion") ?? "";
    if (wanted === "" || wanted === "0") {
      for (const [key, object] of this.#objects) {
        if (key.startsWith(`${query.resource}/`) && matches(object)) {
          send({ type: "ADDED", object });
        }
      }
    } else if (Number(wanted) < this.#forgotten) {
      send({
        type: "ERROR",
        object: failure.expired(Number(wanted), this.#forgotten).status(),
      });
      return () => {};
    }
    const listener = (change: Change) => {
      if (change.resource !== query.resource) return;
      const event = eventOf(change, matches);
      if (event !== undefined) send(event);
    };
    if (wanted !== "" && wanted !== "0") {
      this.#history.filter(({ version }) => version > Number(wanted)).forEach(listener);
    }
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(change: Change): void {
    this.#history.push(change);
    for (const listener of this.#listeners) listener(change);
  }
}

/**
 * An object that stops matching is deleted as far as the watcher can see. As in the real API the
 * event has what it was before, with the version of the change.
 */
function eventOf(
  { version, before, after }: Change,
  matches: (object: KubernetesObject) => boolean,
): WatchEvent | undefined {
  const was = before !== undefined && matches(before);
  if (after !== undefined && matches(after)) {
    return { type: was ? "MODIFIED" : "ADDED", object: after };
  }
  if (!was) return undefined;
  const object = structuredClone(before);
  object.metadata.resourceVersion = String(version);
  return { type: "DELETED", object };
}

function matcher(query: ListQuery): (object: KubernetesObject) => boolean {
  const tests: ((object: KubernetesObject) => boolean)[] = [];
  if (query.namespace !== undefined) {
    tests.push(({ metadata }) => metadata.namespace === query.namespace);
  }
  for (const term of terms(query.parameters.get("fieldSelector"))) {
    const read = fieldReaders[term.name];
    if (read === undefined) throw failure.badFieldSelector(term.name);
    tests.push((object) => (read(object) === term.value) === term.equal);
  }
  for (const term of terms(query.parameters.get("labelSelector"))) {
    tests.push(({ metadata }) => (metadata.labels?.[term.name] === term.value) === term.equal);
  }
  return (object) => tests.every((test) => test(object));
}

function terms(selector: string | null): { name: string; equal: boolean; value: string }[] {
  return (selector ?? "").split(",").filter((term) => term !== "").map((term) => {
    const [, name = "", operator, value = ""] = /^([^=!]+)(!=|==?)(.*)$/.exec(term) ?? [];
    return { name, equal: operator !== "!=", value };
  });
}

const fieldReaders: Readonly<Record<string, (object: KubernetesObject) => unknown>> = {
  "metadata.name": ({ metadata }) => metadata.name,
  "metadata.namespace": ({ metadata }) => metadata.namespace,
  "spec.nodeName": ({ spec }) => (spec as { nodeName?: string } | undefined)?.nodeName ?? "",
  "status.phase": ({ status }) => (status as { phase?: string } | undefined)?.phase ?? "",
};

const kinds: Readonly<Record<string, string>> = {
  pods: "Pod",
  nodes: "Node",
  namespaces: "Namespace",
  daemonsets: "DaemonSet",
};

function resourceOf(object: KubernetesObject): string {
  return `${(object.kind ?? "Pod").toLowerCase()}s`;
}

function keyOf(resource: string, namespace: string | undefined, name: string): string {
  return `${resource}/${namespace ?? ""}/${name}`;
}
