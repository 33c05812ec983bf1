/** Follows a collection of Kubernetes objects: list, watch from there, and again for ever. */
import { isRecord } from "../json/record.ts";
import { errorOf } from "../text/message_of.ts";
import { quote } from "../text/quote.ts";
import type { KubernetesClient } from "./client.ts";
import { ApiError } from "./errors.ts";
import { linesOf } from "./lines.ts";
import { sleep } from "./sleep.ts";

/** What happened; a follower that applies every notice has the collection as the API has it. */
export type WatchNotice<T> =
  /** The whole collection: what is not in it does not exist. */
  | { readonly type: "snapshot"; readonly objects: readonly T[] }
  | { readonly type: "put"; readonly object: T }
  | { readonly type: "deleted"; readonly object: T }
  /** One object could not be parsed and is left out. */
  | { readonly type: "unreadable"; readonly error: Error }
  /** The collection may be out of date until the next snapshot or `resumed`. */
  | {
    readonly type: "interrupted";
    readonly error: Error;
    readonly retryMilliseconds: number;
  }
  /** After an interruption the server tells again what happens, and nothing was missed. */
  | { readonly type: "resumed" };

/** What to follow, and how. */
export interface WatchOptions<T> extends WatchRetries {
  /** The collection's path, for example `/api/v1/pods`. */
  readonly path: string;
  /** For example `spec.nodeName=node-1`. */
  readonly fieldSelector?: string;
  readonly labelSelector?: string;
  /** Asks for the objects' metadata alone, as `PartialObjectMetadata`. */
  readonly metadataOnly?: boolean;
  /** Turns an object as `JSON.parse` makes it into what the follower wants. */
  readonly parse: (json: unknown) => T;
  /** Ends the watch; the generator returns. */
  readonly signal: AbortSignal;
  /** Objects per list request; 250. */
  readonly pageSize?: number;
  /**
   * After so long the server ends a watch, and somewhat later this side gives up on a connection that
   * has died silently; 300 s.
   */
  readonly watchSeconds?: number;
}

/** Waits after failures. */
export interface WatchRetries {
  /** First wait after a failure, doubling; 250 ms. */
  readonly firstRetryMilliseconds?: number;
  /** Longest wait after a failure; 30 s. */
  readonly longestRetryMilliseconds?: number;
}

/** Longest line of a watch, in bytes: more than twice what etcd stores in one object. */
const longestLine = 4 * 1024 * 1024;
/** Longest page of a list, in bytes, for each object that was asked for. */
const longestPageObject = 2 * 1024 * 1024;

/**
 * Lists a collection and follows its changes, through whatever ends a watch: the server's time
 * bound, a lost connection, a forgotten history (410), missing rights. It ends only by the signal.
 *
 * @returns Notices in order, beginning with a snapshot or an interruption.
 */
export async function* watch<T>(
  client: KubernetesClient,
  options: WatchOptions<T>,
): AsyncGenerator<WatchNotice<T>, void, void> {
  const { signal } = options;
  const first = options.firstRetryMilliseconds ?? 250;
  let failures = 0;
  let version: string | undefined;
  let interrupted = false;
  while (!signal.aborted) {
    try {
      if (version === undefined) {
        const listed = await listAll(client, options);
        version = listed.version;
        yield* listed.unreadable;
        interrupted = false;
        yield { type: "snapshot", objects: listed.objects };
      }
      const started = performance.now();
      for await (const event of events(client, options, version)) {
        if (event === "opened") {
          if (interrupted) yield { type: "resumed" };
          interrupted = false;
          continue;
        }
        version = event.version ?? version;
        failures = 0;
        if (event.notice !== undefined) yield event.notice;
      }
      // A server or proxy that ends every watch at once must not be asked in a tight loop.
      if (performance.now() - started < 1000) await sleep(first, signal);
    } catch (error) {
      if (signal.aborted) return;
      const failure = errorOf(error);
      // The list that follows tells everything, so a forgotten history is no interruption.
      if (failure instanceof ApiError && failure.status === 410 && version !== undefined) {
        version = undefined;
        if (failures === 0) {
          failures++;
          continue;
        }
      }
      const wait = Math.min(first * 2 ** failures++, options.longestRetryMilliseconds ?? 30_000);
      const wanted = failure instanceof ApiError ? failure.retryAfterMilliseconds ?? 0 : 0;
      const retryMilliseconds = Math.max(
        wait * (0.5 + Math.random() / 2),
        Math.min(wanted, 30_000),
      );
      interrupted = true;
      yield { type: "interrupted", error: failure, retryMilliseconds };
      await sleep(retryMilliseconds, signal);
    }
  }
}

/** A whole collection at one version. */
export interface Listed<T> {
  readonly version: string;
  readonly objects: readonly T[];
  /** Notices of those that could not be parsed. */
  readonly unreadable: readonly WatchNotice<T>[];
}

/**
 * Reads all pages of a collection; they are of one version.
 *
 * @throws {ApiError} when a page cannot be had, or is none.
 */
export async function listAll<T>(
  client: KubernetesClient,
  options: WatchOptions<T>,
): Promise<Listed<T>> {
  const objects: T[] = [];
  const unreadable: WatchNotice<T>[] = [];
  const query = selectors(options);
  const pageSize = options.pageSize ?? 250;
  query.set("limit", String(pageSize));
  while (true) {
    const page = await client.getJson(`${options.path}?${query}`, {
      what: `the list ${options.path}`,
      verb: "list",
      ...(options.metadataOnly ? { accept: metadataAs("PartialObjectMetadataList") } : {}),
      signal: options.signal,
      maximumBytes: longestPageObject * pageSize,
    });
    const metadata = isRecord(page.metadata) ? page.metadata : {};
    const version = metadata.resourceVersion;
    // A list without objects is `null` when Go writes it.
    const items = page.items ?? [];
    if (typeof version !== "string" || version === "" || !Array.isArray(items)) {
      throw new ApiError(
        `Could not get the list ${options.path} from ${client.server}: the answer is not a list`,
        { kind: "content", temporary: false },
      );
    }
    for (const item of items) {
      try {
        objects.push(options.parse(item));
      } catch (error) {
        unreadable.push({ type: "unreadable", error: errorOf(error) });
      }
    }
    if (typeof metadata.continue !== "string" || metadata.continue === "") {
      return { version, objects, unreadable };
    }
    query.set("continue", metadata.continue);
  }
}

interface VersionedNotice<T> {
  readonly version?: string;
  readonly notice?: WatchNotice<T>;
}

/** One watch request: that the server has taken it, then its events until the server ends it. */
async function* events<T>(
  client: KubernetesClient,
  options: WatchOptions<T>,
  version: string,
): AsyncGenerator<"opened" | VersionedNotice<T>, void, void> {
  const what = `the watch of ${options.path}`;
  const seconds = options.watchSeconds ?? 300;
  const query = selectors(options);
  query.set("watch", "true");
  query.set("allowWatchBookmarks", "true");
  query.set("resourceVersion", version);
  query.set("timeoutSeconds", String(seconds));

  const ended = new AbortController();
  const end = () => ended.abort(options.signal.reason);
  options.signal.throwIfAborted();
  options.signal.addEventListener("abort", end, { once: true });
  const overdue = setTimeout(() => ended.abort(), (seconds + 15) * 1000);
  try {
    const stream = await client.openStream(
      `${options.path}?${query}`,
      what,
      ended.signal,
      options.metadataOnly ? metadataAs("PartialObjectMetadata") : undefined,
    );
    yield "opened";
    for await (const line of linesOf(stream, longestLine)) {
      const event = parseEvent(line);
      if (event.type === "ERROR") throw watchError(event.object, what, client.server);
      yield versionedNotice(event, options.parse);
    }
  } catch (error) {
    options.signal.throwIfAborted();
    throw client.streamError(what, error);
  } finally {
    clearTimeout(overdue);
    options.signal.removeEventListener("abort", end);
    ended.abort();
  }
}

interface RawEvent {
  readonly type: string;
  readonly object: Record<string, unknown>;
}

function parseEvent(line: string): RawEvent {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    event = undefined;
  }
  if (isRecord(event) && typeof event.type === "string" && isRecord(event.object)) {
    return { type: event.type, object: event.object };
  }
  throw new Error(`A line of the watch is not an event: ${quote(line)}`);
}

function versionedNotice<T>(
  event: RawEvent,
  parse: (json: unknown) => T,
): VersionedNotice<T> {
  const metadata = isRecord(event.object.metadata) ? event.object.metadata : {};
  const version = typeof metadata.resourceVersion === "string" && metadata.resourceVersion !== ""
    ? { version: metadata.resourceVersion }
    : {};
  if (event.type !== "ADDED" && event.type !== "MODIFIED" && event.type !== "DELETED") {
    return version;
  }
  try {
    const object = parse(event.object);
    return { ...version, notice: { type: event.type === "DELETED" ? "deleted" : "put", object } };
  } catch (error) {
    return { ...version, notice: { type: "unreadable", error: errorOf(error) } };
  }
}

/** An ERROR event carries a Status object. */
function watchError(status: Record<string, unknown>, what: string, server: string): ApiError {
  const code = typeof status.code === "number" ? status.code : 500;
  const message = typeof status.message === "string" ? `: ${status.message.slice(0, 500)}` : "";
  return new ApiError(
    `Could not get ${what} from ${server}: the server ended it with ${code}${message}`,
    {
      kind: "status",
      status: code,
      reason: typeof status.reason === "string" ? status.reason : undefined,
      temporary: code >= 500 || code === 410 || code === 429,
    },
  );
}

/** The media type by which an API server leaves out all but the metadata (API conventions). */
function metadataAs(kind: string): string {
  return `application/json;as=${kind};g=meta.k8s.io;v=v1`;
}

function selectors<T>(options: WatchOptions<T>): URLSearchParams {
  return new URLSearchParams({
    ...(options.fieldSelector === undefined ? {} : { fieldSelector: options.fieldSelector }),
    ...(options.labelSelector === undefined ? {} : { labelSelector: options.labelSelector }),
  });
}
