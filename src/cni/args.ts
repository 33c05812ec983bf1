/** `CNI_ARGS`: what the runtime tells about the pod (`KEY=VALUE;KEY=VALUE`, any order). */
import { quote } from "../text/quote.ts";
import { CniError, CniErrorCode } from "./errors.ts";

/** The part of `CNI_ARGS` that is used; absent or empty values are left out. */
export interface CniArgs {
  readonly podNamespace?: string;
  readonly podName?: string;
  /** UID of the pod in the runtime's eyes: a static pod's differs from that of its API object. */
  readonly podUid?: string;
  /** For logging. */
  readonly infraContainerId?: string;
  /** For logging; not checked. */
  readonly ip?: string;
}

/** Names a pod to be looked up. */
export interface PodReference {
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
}

/**
 * Parses `CNI_ARGS`. Empty pairs are skipped; a value may hold further `=`.
 *
 * A key may stand twice: thin Multus puts its own arguments before those of the runtime, which are
 * the same in other spellings (`IgnoreUnknown=true;…;IgnoreUnknown=1`). The last value counts, as for
 * libcni's reader, but an empty one does not hide another, and different pods are refused.
 *
 * @param text The variable's value; empty is fine.
 * @throws {CniError} code 4 for a pair without `=`, for two different pods, for an `IgnoreUnknown`
 * that is not a boolean, and for unknown keys unless one `IgnoreUnknown` is true.
 */
export function parseCniArgs(text: string): CniArgs {
  const pairs = new Map<string, string>();
  let ignoreUnknown = false;
  for (const pair of text.split(";")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    if (equals < 1) throw invalid(`CNI_ARGS holds ${quote(pair)}, which is not KEY=VALUE`);
    const key = pair.slice(0, equals);
    const value = pair.slice(equals + 1);
    if (key === "IgnoreUnknown") ignoreUnknown = parseBoolean(value) || ignoreUnknown;
    const earlier = pairs.get(key);
    if (earlier === undefined || value !== "") pairs.set(key, value);
    if (namesPod(key) && earlier && value !== "" && value !== earlier) {
      throw invalid(
        `CNI_ARGS names two pods: ${key} is ${quote(earlier)} and ${quote(value)}`,
        "Expected one pod for each call; look at what calls the plugin",
      );
    }
  }

  if (!ignoreUnknown) {
    const unknown = [...pairs.keys()].filter((key) => !isKnown(key));
    if (unknown.length > 0) {
      throw invalid(
        `CNI_ARGS holds unknown keys: ${unknown.slice(0, 8).map((key) => quote(key)).join(", ")}`,
        "IgnoreUnknown=1 in CNI_ARGS lets them pass",
      );
    }
  }

  const podNamespace = pairs.get("K8S_POD_NAMESPACE");
  const podName = pairs.get("K8S_POD_NAME");
  const podUid = pairs.get("K8S_POD_UID");
  const infraContainerId = pairs.get("K8S_POD_INFRA_CONTAINER_ID");
  const ip = pairs.get("IP");
  return {
    ...(podNamespace ? { podNamespace } : {}),
    ...(podName ? { podName } : {}),
    ...(podUid ? { podUid } : {}),
    ...(infraContainerId ? { infraContainerId } : {}),
    ...(ip ? { ip } : {}),
  };
}

/**
 * Returns the pod that the arguments name, fit to stand in a URL. This is checked only for a lookup:
 * names that other runtimes give to their containers need not follow the rules of Kubernetes.
 *
 * @throws {CniError} code 4 when namespace, name or UID cannot be those of a pod.
 */
export function podReferenceOf(args: CniArgs): PodReference {
  const { podNamespace = "", podName = "", podUid } = args;
  // RFC 1123 label and subdomain, as the API server enforces them for these two names.
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(podNamespace)) {
    throw invalid(
      `K8S_POD_NAMESPACE in CNI_ARGS is ${quote(podNamespace)}, which cannot be a namespace`,
      'Expected at most 63 lower-case letters, digits and "-"',
    );
  }
  if (
    podName.length > 253 ||
    !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(podName)
  ) {
    throw invalid(
      `K8S_POD_NAME in CNI_ARGS is ${quote(podName)}, which cannot be a pod`,
      'Expected at most 253 lower-case letters, digits, "-" and "."',
    );
  }
  if (podUid !== undefined && !/^[A-Za-z0-9_.-]{1,128}$/.test(podUid)) {
    throw invalid(`K8S_POD_UID in CNI_ARGS is ${quote(podUid)}, which cannot be a pod's UID`);
  }
  return {
    namespace: podNamespace,
    name: podName,
    ...(podUid === undefined ? {} : { uid: podUid }),
  };
}

function parseBoolean(value: string): boolean {
  if (/^(1|true)$/i.test(value)) return true;
  if (/^(0|false)$/i.test(value)) return false;
  throw invalid(
    `IgnoreUnknown in CNI_ARGS is ${quote(value)}`,
    "Expected 1, 0, true or false",
  );
}

function namesPod(key: string): boolean {
  return key === "K8S_POD_NAMESPACE" || key === "K8S_POD_NAME" || key === "K8S_POD_UID";
}

function isKnown(key: string): boolean {
  return key === "IgnoreUnknown" || key === "IP" || key === "K8S_POD_INFRA_CONTAINER_ID" ||
    namesPod(key);
}

function invalid(message: string, details = ""): CniError {
  return new CniError(CniErrorCode.InvalidEnvironment, message, details);
}
