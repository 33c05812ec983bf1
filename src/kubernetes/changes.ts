/** Changes of the cluster, as the API takes and refuses them. */
import { ApiError } from "./errors.ts";
import type { TransportRequest } from "./transport.ts";

/** One change of the cluster. */
export type Change =
  /** A new object in the collection `path`. */
  | { readonly verb: "create"; readonly path: string; readonly body: unknown }
  /** Operations on the object at `path`: all of them or none. */
  | { readonly verb: "patch"; readonly path: string; readonly operations: readonly JsonPatch[] }
  /** Takes the object at `path` away, if it is still the one of that UID and version. */
  | {
    readonly verb: "delete";
    readonly path: string;
    readonly uid: string;
    readonly resourceVersion: string;
  };

/** One operation of a JSON Patch (RFC 6902). */
export type JsonPatch =
  | { readonly op: "add" | "replace" | "test"; readonly path: string; readonly value: unknown }
  | { readonly op: "remove"; readonly path: string };

/** Returns the method, the body and its type for a change (Kubernetes API conventions, "Verbs"). */
export function requestOf(change: Change): Omit<TransportRequest, "target"> {
  switch (change.verb) {
    case "create":
      return {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(change.body),
      };
    case "patch":
      return {
        method: "PATCH",
        headers: { "content-type": "application/json-patch+json" },
        body: JSON.stringify(change.operations),
      };
    case "delete": {
      const { uid, resourceVersion } = change;
      return {
        method: "DELETE",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ preconditions: { uid, resourceVersion } }),
      };
    }
  }
}

/**
 * Whether the server refused a change since somebody else was first: 409, the object is another one or
 * there already; 422, a test of the patch has failed.
 */
export function isConflict(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 409 || error.status === 422);
}
