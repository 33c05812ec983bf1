/**
 * The words that the plugin and the node agent exchange over the agent's Unix socket: one JSON
 * object per line, one connection per plugin call. The plugin asks for a pod (ADD, CHECK), and at
 * its end hands over its log records and its outcome; the agent answers each request.
 */
import type { LedgerEntry } from "../ledger/entry.ts";
import type { LogRecord, Severity } from "../log/log.ts";
import type { Pod, PodDns } from "../kubernetes/pod.ts";

/** The longest line either side accepts, in bytes: a pod of 2 MiB and some. */
export const MAX_LINE_BYTES = 4 * 1024 * 1024;

/** The plugin asks for a pod; `uid` is the runtime's idea of it. */
export interface PodRequest {
  readonly type: "pod";
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
}

/** How a plugin call ended, for the agent's metrics. */
export interface CallOutcome {
  readonly command: string;
  readonly result: "redirected" | "skipped" | "failed" | "done";
  /** Skip code or CNI error code as text. */
  readonly reason?: string;
  readonly engine?: string;
  /** Why the engine "ebpf", which was asked for, was not used: a code. */
  readonly fallback?: string;
  /** Whether V8 took the bytecode of the build; absent when the plugin runs from its sources. */
  readonly bytecode?: string;
  /** Milliseconds by phase, for example `lookup`, `apply`, `total`. */
  readonly phases: Readonly<Record<string, number>>;
}

/** The plugin's last words. */
export interface FinishRequest {
  readonly type: "finish";
  readonly records: readonly LogRecord[];
  readonly outcome?: CallOutcome;
  /** What was done to the sandbox, for the ledger, whose reader checks it. */
  readonly entry?: LedgerEntry;
}

/** The plugin's last words as they came: the entry is what anybody has sent. */
export interface ReceivedFinish extends Omit<FinishRequest, "entry"> {
  readonly entry?: unknown;
}

/** What a plugin may send. */
export type AgentRequest = PodRequest | FinishRequest;

/** What an agent may receive. */
export type ReceivedRequest = PodRequest | ReceivedFinish;

/** The agent has to ask the API server first: the plugin may wait longer than for a silent agent. */
export interface PendingResponse {
  readonly type: "pending";
}

/** The pod that was asked for. */
export interface PodResponse {
  readonly type: "pod";
  readonly pod: Pod;
}

/** The agent could not get the pod. */
export interface PodErrorResponse {
  readonly type: "pod-error";
  /** Another try can succeed. */
  readonly temporary: boolean;
  /** HTTP status of the API server, when it answered. */
  readonly status?: number;
  readonly message: string;
}

/** The agent has taken over records and outcome. */
export interface FinishedResponse {
  readonly type: "finished";
}

/** What an agent may answer. */
export type AgentResponse = PendingResponse | PodResponse | PodErrorResponse | FinishedResponse;

/**
 * Parses a request line.
 *
 * @throws {TypeError} when it is not one of the requests.
 */
export function parseRequest(line: string): ReceivedRequest {
  const value = parseObject(line);
  if (value.type === "pod") {
    return {
      type: "pod",
      namespace: text(value, "namespace"),
      name: text(value, "name"),
      ...(value.uid === undefined ? {} : { uid: text(value, "uid") }),
    };
  }
  if (value.type === "finish") {
    if (!Array.isArray(value.records)) throw new TypeError('"records" must be an array');
    const outcome = value.outcome === undefined ? undefined : parseOutcome(value.outcome);
    return {
      type: "finish",
      records: value.records.map(parseRecord),
      ...(outcome === undefined ? {} : { outcome }),
      ...(value.entry === undefined ? {} : { entry: value.entry }),
    };
  }
  throw new TypeError(`Unknown request type ${JSON.stringify(value.type)}`);
}

/**
 * Parses a response line.
 *
 * @throws {TypeError} when it is not one of the responses.
 */
export function parseResponse(line: string): AgentResponse {
  const value = parseObject(line);
  switch (value.type) {
    case "pending":
      return { type: "pending" };
    case "finished":
      return { type: "finished" };
    case "pod":
      return { type: "pod", pod: parsePodWord(value.pod) };
    case "pod-error":
      return {
        type: "pod-error",
        temporary: value.temporary === true,
        message: text(value, "message"),
        ...(typeof value.status === "number" ? { status: value.status } : {}),
      };
  }
  throw new TypeError(`Unknown response type ${JSON.stringify(value.type)}`);
}

function parseObject(line: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new TypeError("Line is not JSON", { cause: error });
  }
  return object(value, "line");
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`"${what}" must be an object`);
  }
  return value as Record<string, unknown>;
}

function text(value: Record<string, unknown>, key: string): string {
  const found = value[key];
  if (typeof found !== "string") throw new TypeError(`"${key}" must be a string`);
  return found;
}

function texts(value: Record<string, unknown>, key: string): string[] {
  const found = value[key];
  if (!Array.isArray(found) || !found.every((item) => typeof item === "string")) {
    throw new TypeError(`"${key}" must be an array of strings`);
  }
  return found;
}

function parsePodWord(value: unknown): Pod {
  const pod = object(value, "pod");
  const annotations = object(pod.annotations, "annotations");
  for (const key of Object.keys(annotations)) text(annotations, key);
  return {
    namespace: text(pod, "namespace"),
    name: text(pod, "name"),
    uid: text(pod, "uid"),
    annotations: annotations as Record<string, string>,
    containerNames: texts(pod, "containerNames"),
    initContainerNames: texts(pod, "initContainerNames"),
    ...sidecarDnsWord(pod),
    ...(pod.dns === undefined ? {} : { dns: parseDnsWord(pod.dns) }),
    ...(pod.runtimeClassName === undefined
      ? {}
      : { runtimeClassName: text(pod, "runtimeClassName") }),
  };
}

function sidecarDnsWord({ sidecarDns }: Record<string, unknown>): Pick<Pod, "sidecarDns"> {
  if (sidecarDns === undefined) return {};
  if (sidecarDns === "embedded" || sidecarDns === "coredns") return { sidecarDns };
  throw new TypeError(`Unknown "sidecarDns" ${JSON.stringify(sidecarDns)}`);
}

function parseDnsWord(value: unknown): PodDns {
  const dns = object(value, "dns");
  return { policy: text(dns, "policy"), nameservers: texts(dns, "nameservers") };
}

function parseRecord(value: unknown): LogRecord {
  const record = object(value, "record");
  const severity = text(record, "severity");
  if (!isSeverity(severity)) throw new TypeError(`Unknown severity ${JSON.stringify(severity)}`);
  // The range of dates in JavaScript; others have no text form.
  if (typeof record.time !== "number" || !(Math.abs(record.time) <= 8.64e15)) {
    throw new TypeError('"time" must be milliseconds since 1970');
  }
  return {
    time: record.time,
    severity,
    logger: text(record, "logger"),
    message: text(record, "message"),
    fields: object(record.fields, "fields"),
  };
}

function isSeverity(value: string): value is Severity {
  return value === "debug" || value === "info" || value === "warn" || value === "error";
}

function parseOutcome(value: unknown): CallOutcome {
  const outcome = object(value, "outcome");
  const result = text(outcome, "result");
  if (
    result !== "redirected" && result !== "skipped" && result !== "failed" && result !== "done"
  ) {
    throw new TypeError(`Unknown result ${JSON.stringify(result)}`);
  }
  const phases: Record<string, number> = {};
  for (const [name, milliseconds] of Object.entries(object(outcome.phases, "phases"))) {
    if (typeof milliseconds !== "number") throw new TypeError('"phases" must hold numbers');
    phases[name] = milliseconds;
  }
  return {
    command: text(outcome, "command"),
    result,
    phases,
    ...(outcome.reason === undefined ? {} : { reason: text(outcome, "reason") }),
    ...(outcome.fallback === undefined ? {} : { fallback: text(outcome, "fallback") }),
    ...(outcome.engine === undefined ? {} : { engine: text(outcome, "engine") }),
    ...(outcome.bytecode === undefined ? {} : { bytecode: text(outcome, "bytecode") }),
  };
}
