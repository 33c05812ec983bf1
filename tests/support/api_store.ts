/** The objects of the API server stand-in: versions, selectors, pages, history and its loss. */
import { apiKinds, resourceOf } from "./api_kinds.ts";
import { applyJsonPatch, PatchError, type PatchOperation } from "./json_patch.ts";
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
        `in API group "${apiKinds[resource]?.group ?? ""}" ` +
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
  exists: (resource: string, name: string) =>
    new ApiFailure(
      409,
      "AlreadyExists",
      `${withGroup(resource)} "${name}" already exists`,
      detailsOf(resource, name),
    ),
  conflict: (resource: string, name: string, message: string) =>
    new ApiFailure(
      409,
      "Conflict",
      `Operation cannot be fulfilled on ${withGroup(resource)} "${name}": ${message}`,
      detailsOf(resource, name),
    ),
  badPatch: () =>
    new ApiFailure(
      422,
      "Invalid",
      "the server rejected our request due to an error in our request",
      {},
    ),
  badRequest: (message: string) => new ApiFailure(400, "BadRequest", message),
  badMediaType: (type: string) =>
    new ApiFailure(
      415,
      "UnsupportedMediaType",
      `the body of the request was in an unknown format - accepted media types include: ${type}`,
    ),
  lostPage: () =>
    new ApiFailure(
      410,
      "Expired",
      "The provided continue parameter is too old to display a consistent list result.",
    ),
  badFieldSelector: (label: string) =>
    new ApiFailure(400, "BadRequest", `field label not supported: ${label}`),
} as const;

function withGroup(resource: string): string {
  const group = apiKinds[resource]?.group ?? "";
  return group === "" ? resource : `${resource}.${group}`;
}

function detailsOf(resource: string, name: string | undefined): Record<string, string> {
  const group = apiKinds[resource]?.group ?? "";
  return {
    ...(name === undefined ? {} : { name }),
    ...(group === "" ? {} : { group }),
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
  /** Rests of lists that were read in part, by their `continue` token: all pages are of one version. */
  #pages = new Map<string, { version: string; objects: readonly KubernetesObject[] }>();

  constructor(objects: readonly KubernetesObject[]) {
    for (const object of objects) this.put(object);
  }

  /** The version of the last change. */
  get resourceVersion(): string {
    return String(this.#version);
  }

  /** Whether a resource is known now: one that is defined at run time goes with its definition. */
  serves(resource: string): boolean {
    const { group, isCustom } = apiKinds[resource] ?? {};
    const definition = keyOf("customresourcedefinitions", undefined, `${resource}.${group}`);
    return !isCustom || this.#objects.has(definition);
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
    this.#pages.clear();
  }

  /** Whether there is that object. */
  has(resource: string, namespace: string | undefined, name: string): boolean {
    return this.#objects.has(keyOf(resource, namespace, name));
  }

  /** Returns an object; throws the failure that the API would answer. */
  get(resource: string, namespace: string | undefined, name: string): KubernetesObject {
    if (!Object.hasOwn(apiKinds, resource)) throw failure.unknownPath();
    const found = this.#objects.get(keyOf(resource, namespace, name));
    if (found === undefined) throw failure.notFound(resource, name);
    return found;
  }

  /** Creates an object as a client asks for it; its name may be made up. */
  create(
    resource: string,
    namespace: string | undefined,
    object: KubernetesObject,
  ): KubernetesObject {
    const { kind, apiVersion, namespaced } = apiKinds[resource] ?? {};
    if (object.kind !== kind || object.apiVersion !== apiVersion) {
      throw failure.badRequest(
        `${object.apiVersion} ${object.kind} is not a ${apiVersion} ${kind}`,
      );
    }
    if (namespaced && (object.metadata.namespace ?? namespace) !== namespace) {
      throw failure.badRequest("the namespace of the object does not match the request");
    }
    const made = structuredClone(object);
    const prefix = made.metadata.generateName;
    made.metadata.name ??= `${prefix}${crypto.randomUUID().slice(0, 5)}`;
    if (namespaced) made.metadata.namespace = namespace!;
    made.metadata.creationTimestamp ??= new Date().toISOString().replace(/\.\d+/, "");
    const { name } = made.metadata;
    if (this.#objects.has(keyOf(resource, namespace, name))) throw failure.exists(resource, name);
    return this.put(made);
  }

  /** Changes an object by a JSON Patch: all of it or nothing. */
  patch(
    resource: string,
    namespace: string | undefined,
    name: string,
    operations: readonly PatchOperation[],
  ): KubernetesObject {
    const before = this.get(resource, namespace, name);
    let after: KubernetesObject;
    try {
      after = applyJsonPatch(before, operations);
    } catch (error) {
      if (error instanceof PatchError) throw failure.badPatch();
      throw error;
    }
    const { metadata } = after;
    if (metadata.name !== name || metadata.uid !== before.metadata.uid) throw failure.badPatch();
    if (metadata.resourceVersion !== before.metadata.resourceVersion) {
      throw failure.conflict(resource, name, "the object has been modified");
    }
    // A change that changes nothing is none, and has no new version.
    return JSON.stringify(after) === JSON.stringify(before) ? before : this.put(after);
  }

  /** Deletes an object if it is the one of these preconditions. */
  deleteIf(
    resource: string,
    namespace: string | undefined,
    name: string,
    preconditions: { readonly uid?: string; readonly resourceVersion?: string },
  ): KubernetesObject {
    const object = this.get(resource, namespace, name);
    for (const field of ["uid", "resourceVersion"] as const) {
      const expected = preconditions[field];
      if (expected === undefined || expected === object.metadata[field]) continue;
      throw failure.conflict(
        resource,
        name,
        `Precondition failed: ${field} in precondition: ${expected}`,
      );
    }
    this.delete(resource, namespace, name);
    return object;
  }

  /** Returns a list object, of at most `limit` items with a `continue` token for the rest. */
  list(query: ListQuery): KubernetesObject {
    const { kind, apiVersion } = apiKinds[query.resource] ?? {};
    const limit = Number(query.parameters.get("limit") ?? "0");
    const { version, objects } = this.#pageOf(query);
    const page = limit > 0 ? objects.slice(0, limit) : objects;
    const rest = objects.slice(page.length);
    const token = `${version}-${rest.length}-${crypto.randomUUID()}`;
    if (rest.length > 0) this.#pages.set(token, { version, objects: rest });
    return {
      kind: `${kind ?? "Object"}List`,
      apiVersion: apiVersion ?? "v1",
      metadata: {
        resourceVersion: version,
        ...(rest.length > 0 ? { continue: token, remainingItemCount: rest.length } : {}),
      } as unknown as KubernetesObject["metadata"],
      items: page.map(({ kind: _kind, apiVersion: _apiVersion, ...item }) => item),
    };
  }

  /** What is left of the list at the version of its first page. */
  #pageOf(query: ListQuery): { version: string; objects: readonly KubernetesObject[] } {
    const token = query.parameters.get("continue") ?? "";
    if (token !== "") {
      const page = this.#pages.get(token);
      if (page === undefined) throw failure.lostPage();
      return page;
    }
    const matches = matcher(query);
    const objects = [...this.#objects]
      .filter(([key, object]) => key.startsWith(`${query.resource}/`) && matches(object))
      .sort(([a], [b]) => a < b ? -1 : 1).map(([, object]) => object);
    return { version: this.resourceVersion, objects };
  }

  /** A bookmark event of that resource at the present version. */
  bookmark(resource = "pods"): WatchEvent {
    const { kind, apiVersion } = apiKinds[resource]!;
    return {
      type: "BOOKMARK",
      object: {
        kind,
        apiVersion,
        metadata: {
          resourceVersion: this.resourceVersion,
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
    tests.push(({ metadata }) => {
      const value = metadata.labels?.[term.name];
      return term.equal === (term.value === undefined ? value !== undefined : value === term.value);
    });
  }
  return (object) => tests.every((test) => test(object));
}

interface SelectorTerm {
  readonly name: string;
  readonly equal: boolean;
  /** `undefined` in a term that only asks whether the name is there. */
  readonly value: string | undefined;
}

function terms(selector: string | null): SelectorTerm[] {
  return (selector ?? "").split(",").filter((term) => term !== "").map((term) => {
    const [, name, operator, value = ""] = /^([^=!]+)(!=|==?)(.*)$/.exec(term) ?? [];
    if (name !== undefined) return { name, equal: operator !== "!=", value };
    return { name: term.replace("!", ""), equal: !term.startsWith("!"), value: undefined };
  });
}

const fieldReaders: Readonly<Record<string, (object: KubernetesObject) => unknown>> = {
  "metadata.name": ({ metadata }) => metadata.name,
  "metadata.namespace": ({ metadata }) => metadata.namespace,
  "spec.nodeName": ({ spec }) => (spec as { nodeName?: string } | undefined)?.nodeName ?? "",
  "involvedObject.name": ({ involvedObject }) =>
    (involvedObject as { name?: string } | undefined)?.name ?? "",
  "reason": ({ reason }) => reason ?? "",
  "status.phase": ({ status }) => (status as { phase?: string } | undefined)?.phase ?? "",
};

function keyOf(resource: string, namespace: string | undefined, name: string): string {
  return `${resource}/${namespace ?? ""}/${name}`;
}
